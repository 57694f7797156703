// The kernels of each formula.
#pragma once

#include "../tables/table.h"
#include "launch.h"

namespace fastvae::FASTVAE_ISA {

// Of a formula in one direction, for each lot. Gradients alone are shared, so values have no kernel for columns.
struct Entry {
  Launch launches[int(Lot::count)] = {};

  template <class Float, class Double>
  static Entry of() {
    Entry entry;
    entry.launches[int(Lot::usual_words)] = launch<Float, UsualWords>;
    entry.launches[int(Lot::usual_halves)] = launch<Float, UsualHalves>;
    entry.launches[int(Lot::words)] = launch<Float, Words>;
    entry.launches[int(Lot::halves)] = launch<Float, Halves>;
    entry.launches[int(Lot::mixed)] = launch<Float, Mixed>;
    entry.launches[int(Lot::general)] = launch<Float, General>;
    entry.launches[int(Lot::doubles)] = launch<Double, Doubles>;
    if constexpr (Float::direction != Direction::value) entry.launches[int(Lot::columns)] = launch_columns<Float>;
    return entry;
  }
};

using Table = TableOf<Entry>;

void add_posterior(Table& table);
void add_posterior_backward(Table& table);
void add_likelihood(Table& table);
void add_counts(Table& table);
void add_pixels(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
