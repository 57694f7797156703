// Entering formulas into the table, one line each.
#pragma once

#include "../math/posterior.h"
#include "table.h"

namespace fastvae::FASTVAE_ISA {

template <template <class...> class F, class... Reading>
void add_reading(Table& table, Formula formula, fastvae::ScaleAs scale_as) {
  auto& loops = table.loops[int(formula)][int(scale_as)];
  loops[int(Arithmetic::f32)] = run_loop<F<float, Reading...>, float, float>;
  loops[int(Arithmetic::f64)] = run_loop<F<double, Reading...>, double, double>;
  loops[int(Arithmetic::bf16)] = run_loop<F<float, Reading...>, float, BFloat16>;
  table.tensor_inputs[int(formula)] = F<float, Reading...>::tensor_inputs;
}

// A formula without a scale parameter stands under the first reading.
template <template <class...> class F>
void add(Table& table, Formula formula) {
  add_reading<F>(table, formula, fastvae::ScaleAs::log_var);
}

template <template <class...> class F>
void add_scaled(Table& table, Formula formula) {
  add_reading<F, LogVar>(table, formula, fastvae::ScaleAs::log_var);
  add_reading<F, LogStd>(table, formula, fastvae::ScaleAs::log_std);
  add_reading<F, Var>(table, formula, fastvae::ScaleAs::var);
  add_reading<F, Std>(table, formula, fastvae::ScaleAs::std);
  add_reading<F, Softplus>(table, formula, fastvae::ScaleAs::softplus);
}

void add_posterior(Table& table);
void add_likelihood(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
