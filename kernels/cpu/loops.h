// Formulas of kernels/math as loops over buffers.
#pragma once

#include <tuple>

#include "../tables/table.h"
#include "few.h"

namespace fastvae::FASTVAE_ISA {

using Loop = void (*)(const Constants<double>&, const void* const* in, void* const* out, int64_t n);

// The arithmetic of a loop: float, double, or float over inputs that lie in memory as bfloat16. Results always pass
// through a buffer: narrowing inside the loop costs more than it saves.
enum class Arithmetic : uint8_t { f32, f64, bf16, count };

// By bits, the inputs that are the caller's tensors.
template <class D>
constexpr unsigned kTensors = ((1u << (D::inputs - D::sampled)) - 1) >> D::first_tensor << D::first_tensor;

// So many elements at most are brought together, and so many at least: vectors are then full.
constexpr int64_t kGathered = kTile / 4, kFullVectors = 16;

// In memory as `Stored` where it is a tensor, in the arithmetic type elsewhere.
template <class D, class T, class Stored, size_t k>
using Element = std::conditional_t<(kTensors<D> >> k & 1) != 0, Stored, T>;

// Beside a byte that is written for each element GCC takes four vectors of floats at a time, and every operation of all
// four before the next: where one waits for its result the others go on.
template <bool serial>
struct Pacemaker {
  FASTVAE_FN void step(int64_t) {}
};
template <>
struct Pacemaker<true> {
  int8_t steps[kTile];
  FASTVAE_FN void step(int64_t i) { steps[i] = int8_t(i); }
  FASTVAE_FN ~Pacemaker() { asm volatile("" : : "r"(steps) : "memory"); }  // as if somebody read them
};

// Writes the outputs that `wanted` names by bits. What another needs alone the compiler drops.
template <class D, class T, class Stored, unsigned wanted, size_t... I, size_t... O>
FASTVAE_FN void loop(const Constants<T>& c, const void* const* in, void* const* out, int64_t n,
                     std::index_sequence<I...>, std::index_sequence<O...>) {
  const std::tuple<const Element<D, T, Stored, I>*...> x{static_cast<const Element<D, T, Stored, I>*>(in[I])...};
  T* const y[] = {static_cast<T*>(out[O])...};
  Pacemaker<D::serial> pace;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T inputs[] = {load(std::get<I>(x)[i])...};
    T outputs[sizeof...(O)];
    D::at(c, inputs, outputs);
    ((wanted >> O & 1 ? void(y[O][i] = outputs[O]) : void()), ...);
    pace.step(i);
  }
}

template <class D, class T, class Stored, unsigned wanted>
FASTVAE_FN void loop(const Constants<T>& c, const void* const* in, void* const* out, int64_t n) {
  loop<D, T, Stored, wanted>(c, in, out, n, std::make_index_sequence<D::inputs>(),
                             std::make_index_sequence<D::outputs>());
}

// The same as one function of the library, where it is called from more places than one.
template <class D, class T, class Stored, unsigned wanted, bool usual>
[[gnu::noinline]] void loop_once(const Constants<T>& c, const void* const* in, void* const* out, int64_t n) {
  Constants<T> constants(c);
  if (usual) constants.make_usual();
  loop<D, T, Stored, wanted>(constants, in, out, n);
}

// Elements that lie apart, brought together for a loop over them; the last again and again until vectors are full.
template <class D, class T, class Stored, unsigned wanted, bool usual, size_t... I, size_t... O>
FASTVAE_FN void loop_over(const int32_t* indices, const Constants<T>& c, const void* const* in, void* const* out,
                          int64_t n, std::index_sequence<I...>, std::index_sequence<O...>) {
  alignas(64) T x[sizeof...(I)][kGathered], y[sizeof...(O)][kGathered];
  for (int64_t k = 0; k < n; ++k)
    ((x[I][k] = load(static_cast<const Element<D, T, Stored, I>*>(in[I])[indices[k]])), ...);
  int64_t full = (n + kFullVectors - 1) / kFullVectors * kFullVectors;
  for (int64_t k = n; k < full; ++k) ((x[I][k] = x[I][n - 1]), ...);
  const void* const inputs[] = {x[I]...};
  void* const outputs[] = {y[O]...};
  loop_once<D, T, T, wanted, usual>(c, inputs, outputs, full);
  for (int64_t k = 0; k < n; ++k)
    ((wanted >> O & 1 ? void(static_cast<T*>(out[O])[indices[k]] = y[O][k]) : void()), ...);
}

// By what is short for one kind of element all of them, then the few of the other kind once more.
template <class Most, class Other, class T, class Stored, unsigned wanted, bool usual>
FASTVAE_FN void loop_of_both(const Few& few, const Constants<T>& c, const void* const* in, void* const* out,
                             int64_t n) {
  loop_once<Most, T, Stored, wanted, usual>(c, in, out, n);
  for (int64_t k = 0; k < few.count; k += kGathered)
    loop_over<Other, T, Stored, wanted, usual>(
        few.indices + k, c, in, out, few.count - k < kGathered ? few.count - k : kGathered,
        std::make_index_sequence<Other::inputs>(), std::make_index_sequence<Other::outputs>());
}

template <class D, class T, class Stored, unsigned wanted, bool usual>
FASTVAE_FN void loop_of_counts(const Constants<T>& c, const void* const* in, void* const* out, int64_t n) {
  using Zero = typename D::AtZero;
  using Other = typename D::NotZero;
  Few few = Few::of<T>(static_cast<const Stored*>(in[D::first_tensor]), n);
  if (few.zeros) loop_of_both<Other, Zero, T, Stored, wanted, usual>(few, c, in, out, n);
  else loop_of_both<Zero, Other, T, Stored, wanted, usual>(few, c, in, out, n);
}

template <class D, class T, class Stored, unsigned wanted, bool usual>
FASTVAE_FN void run_with(const Constants<T>& c, const void* const* in, void* const* out, int64_t n) {
  if constexpr (std::is_same_v<typename D::AtZero, D>) loop<D, T, Stored, wanted>(c, in, out, n);
  else loop_of_counts<D, T, Stored, wanted, usual>(c, in, out, n);
}

template <class D, class T, class Stored, unsigned wanted>
void run_loop(const Constants<double>& c, const void* const* in, void* const* out, int64_t n) {
  Constants<T> constants(c);
  if (!c.is_usual()) return run_with<D, T, Stored, wanted, false>(constants, in, out, n);
  // The usual call again, with what is usual known to the compiler: a third of the instructions fall away.
  constants.make_usual();
  run_with<D, T, Stored, wanted, true>(constants, in, out, n);
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
void add_pixels(Table& table);
void add_objective(Table& table);

}  // namespace fastvae::FASTVAE_ISA
