// The kernels of each formula.
#pragma once

#include "../tables/table.h"
#include "launch.h"

namespace fastvae::FASTVAE_ISA {

// Of a formula in one direction, for each lot.
struct Entry {
  Launch launches[int(Lot::count)] = {};

  template <class Float, class Double>
  static Entry of() {
    Entry entry;
    entry.launches[int(Lot::quads)] = launch<Float, Quads>;
    entry.launches[int(Lot::octets)] = launch<Float, Octets>;
    entry.launches[int(Lot::scattered)] = launch<Float, Singles<float>>;
    entry.launches[int(Lot::scattered_f64)] = launch<Double, Singles<double>>;
    return entry;
  }
};

using Table = TableOf<Entry>;

void add_posterior(Table& table);
void add_posterior_backward(Table& table);
void add_likelihood(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
