// Entering formulas into the table, one line each.
#pragma once

#include "../math/posterior.h"
#include "table.h"

namespace fastvae::FASTVAE_ISA {

// A formula without a scale parameter stands under the first reading.
template <template <class> class F>
void add(Table& table, Formula formula) {
  auto& loops = table.loops[int(formula)][0];
  loops[0] = run_loop<F<float>, float>;
  loops[1] = run_loop<F<double>, double>;
}

template <template <class, class> class F, class Reading>
void add_reading(Table& table, Formula formula, fastvae::ScaleAs scale_as) {
  auto& loops = table.loops[int(formula)][int(scale_as)];
  loops[0] = run_loop<F<float, Reading>, float>;
  loops[1] = run_loop<F<double, Reading>, double>;
}

template <template <class, class> class F>
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
