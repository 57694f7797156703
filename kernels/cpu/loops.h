// Formulas of kernels/math as loops over buffers.
#pragma once

#include <tuple>

#include "../tables/table.h"
#include "convert.h"

namespace fastvae::FASTVAE_ISA {

using Loop = void (*)(const Constants<double>&, const void* const* in, void* const* out, int64_t n);

// The arithmetic of a loop: float, double, or float over inputs that lie in memory as bfloat16. Results always pass
// through a buffer: narrowing inside the loop costs more than it saves.
enum class Arithmetic : uint8_t { f32, f64, bf16, count };

FASTVAE_FN float load(float x) { return x; }
FASTVAE_FN double load(double x) { return x; }
FASTVAE_FN float load(BFloat16 x) { return to_float(x); }

// By bits, the inputs that are the caller's tensors.
template <class D>
constexpr unsigned kTensors = ((1u << (D::inputs - D::sampled)) - 1) >> D::first_tensor << D::first_tensor;

// In memory as `Stored` where it is a tensor, in the arithmetic type elsewhere.
template <class D, class T, class Stored, size_t k>
using Element = std::conditional_t<(kTensors<D> >> k & 1) != 0, Stored, T>;

// Writes the outputs that `wanted` names by bits. What another needs alone the compiler drops.
template <class D, class T, class Stored, unsigned wanted, size_t... I, size_t... O>
FASTVAE_FN void loop(const Constants<T>& c, const void* const* in, void* const* out, int64_t n,
                     std::index_sequence<I...>, std::index_sequence<O...>) {
  const std::tuple<const Element<D, T, Stored, I>*...> x{static_cast<const Element<D, T, Stored, I>*>(in[I])...};
  T* const y[] = {static_cast<T*>(out[O])...};
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T inputs[] = {load(std::get<I>(x)[i])...};
    T outputs[sizeof...(O)];
    D::at(c, inputs, outputs);
    ((wanted >> O & 1 ? void(y[O][i] = outputs[O]) : void()), ...);
  }
}

template <class D, class T, class Stored, unsigned wanted>
void run_loop(const Constants<double>& c, const void* const* in, void* const* out, int64_t n) {
  auto inputs = std::make_index_sequence<D::inputs>();
  auto outputs = std::make_index_sequence<D::outputs>();
  Constants<T> constants(c);
  if (!c.is_usual()) return loop<D, T, Stored, wanted>(constants, in, out, n, inputs, outputs);
  // The usual call again, with what is usual known to the compiler: a third of the instructions fall away.
  constants.make_usual();
  loop<D, T, Stored, wanted>(constants, in, out, n, inputs, outputs);
}

// A formula in one direction: by arithmetic, and by bits what is written. A loop that writes everything is always
// there.
struct Entry {
  Loop loops[int(Arithmetic::count)][1 << kMaxOutputs] = {};
  unsigned tensors = 0;

  template <class Float, class Double>
  static Entry of() {
    Entry entry;
    entry.tensors = kTensors<Float>;
    constexpr unsigned all = (1u << Float::outputs) - 1;
    entry.set<Float, all>();
    entry.loops[int(Arithmetic::f64)][all] = run_loop<Double, double, double, all>;
    if constexpr (Float::first_optional < Float::outputs)
      entry.set_variants<Float>(std::make_index_sequence<Float::outputs - Float::first_optional - 1>());
    return entry;
  }

  // A loop that writes what is wanted, and little else.
  Loop find(Arithmetic arithmetic, unsigned wanted) const {
    unsigned written = wanted;
    while (loops[int(arithmetic)][written] == nullptr) written = (written + 1) | wanted;
    return loops[int(arithmetic)][written];
  }

 private:
  template <class D, unsigned wanted>
  void set() {
    loops[int(Arithmetic::f32)][wanted] = run_loop<D, float, float, wanted>;
    loops[int(Arithmetic::bf16)][wanted] = run_loop<D, float, BFloat16, wanted>;
  }

  // Every output but the first that is optional, and each of the others alone.
  template <class D, size_t... V>
  void set_variants(std::index_sequence<V...>) {
    constexpr unsigned first = 1u << D::first_optional, always = first - 1;
    set<D, ((1u << D::outputs) - 1) ^ first>();
    (set<D, always | first << (V + 1)>(), ...);
  }
};

using Table = TableOf<Entry>;

void add_posterior(Table& table);
void add_likelihood(Table& table);
void add_counts(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
