// The formulas as a device has them, in each direction and for each way that scale_as names.
#pragma once

#include "../host/job.h"
#include "../math/scale.h"

namespace fastvae::FASTVAE_ISA {

// `Entry::of<Float, Double>()` is the device's: what it keeps of a formula in one direction, given in both types.
template <class Entry>
struct TableOf {
  Entry entries[int(Formula::count)][int(Direction::count)][int(fastvae::ScaleAs::count)] = {};

  const Entry& find(const Job& job) const { return entries[int(job.formula)][int(job.direction)][int(job.scale_as)]; }

  template <template <class> class Directed, template <class, class> class F>
  void add(Formula formula) {
#define SCALE_AS(name, Read) set<Directed<F<float, Read>>, Directed<F<double, Read>>>(formula, fastvae::ScaleAs::name);
#include "scale_as.h"
#undef SCALE_AS
  }

  // A formula without a scale stands under the first way.
  template <template <class> class Directed, template <class> class F>
  void add(Formula formula) {
    set<Directed<F<float>>, Directed<F<double>>>(formula, fastvae::ScaleAs(0));
  }

 private:
  template <class Float, class Double>
  void set(Formula formula, fastvae::ScaleAs scale_as) {
    static_assert(Float::inputs <= kMaxOperands && Float::outputs <= kMaxOutputs);
    entries[int(formula)][int(Float::direction)][int(scale_as)] = Entry::template of<Float, Double>();
  }
};

}  // namespace fastvae::FASTVAE_ISA

// What a line of the lists beside this adds to a `table`.
#define FORMULA(name, F) table.add<Value, F>(Formula::name);
#define OPERATOR(name, F, ...) FORMULA(name, F) table.add<Gradient, F>(Formula::name);
#define LIKELIHOOD(name, F, ...)                                    \
  FORMULA(name, F) table.add<LikelihoodGradient, F>(Formula::name); \
  table.add<OnePass, F>(Formula::name);
