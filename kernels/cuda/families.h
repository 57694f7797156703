// Entering formulas into the table of kernels, one line each.
#pragma once

#include "../math/posterior.h"
#include "launch.h"

namespace fastvae::FASTVAE_ISA {

struct Table {
  Launch launches[int(Formula::count)][int(fastvae::ScaleAs::count)][int(Lot::count)] = {};

  Launch find(const Task& task) const { return launches[int(task.formula)][int(task.scale_as)][int(task.lot)]; }
};

template <template <class...> class F, Sampling sampling, class... Reading>
void add_reading(Table& table, Formula formula, fastvae::ScaleAs scale_as) {
  auto& launches = table.launches[int(formula)][int(scale_as)];
  launches[int(Lot::quads)] = launch<F<float, Reading...>, Quads, sampling>;
  launches[int(Lot::octets)] = launch<F<float, Reading...>, Octets, sampling>;
  launches[int(Lot::scattered)] = launch<F<float, Reading...>, Singles<float>, sampling>;
  launches[int(Lot::scattered_f64)] = launch<F<double, Reading...>, Singles<double>, sampling>;
}

// A formula without a scale parameter stands under the first reading.
template <template <class...> class F>
void add(Table& table, Formula formula) {
  add_reading<F, Sampling::none>(table, formula, fastvae::ScaleAs::log_var);
}

template <template <class...> class F, Sampling sampling = Sampling::none>
void add_scaled(Table& table, Formula formula) {
  add_reading<F, sampling, LogVar>(table, formula, fastvae::ScaleAs::log_var);
  add_reading<F, sampling, LogStd>(table, formula, fastvae::ScaleAs::log_std);
  add_reading<F, sampling, Var>(table, formula, fastvae::ScaleAs::var);
  add_reading<F, sampling, Std>(table, formula, fastvae::ScaleAs::std);
  add_reading<F, sampling, Softplus>(table, formula, fastvae::ScaleAs::softplus);
}

void add_posterior(Table& table);
void add_posterior_backward(Table& table);
void add_likelihood(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
