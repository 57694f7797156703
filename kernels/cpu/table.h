// Formulas of kernels/math as loops over buffers, looked up by name, reading and arithmetic.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "../math/platform.h"
#include "convert.h"
#include "work.h"

namespace fastvae::FASTVAE_ISA {

using Loop = void (*)(const Constants<double>&, const void* const* in, void* const* out, int64_t n);

// The arithmetic of a loop: float, double, or float over inputs that lie in memory as bfloat16. Results always pass
// through a buffer: narrowing inside the loop costs more than it saves.
enum class Arithmetic : uint8_t { f32, f64, bf16, count };

struct Table {
  Loop loops[int(Formula::count)][int(fastvae::ScaleAs::count)][int(Arithmetic::count)] = {};
  unsigned tensor_inputs[int(Formula::count)] = {};

  Loop find(const Job& job, Arithmetic arithmetic) const {
    return loops[int(job.formula)][int(job.scale_as)][int(arithmetic)];
  }
};

FASTVAE_FN float load(float x) { return x; }
FASTVAE_FN double load(double x) { return x; }
FASTVAE_FN float load(BFloat16 x) { return to_float(x); }

// In memory as `Stored` where bit k of `tensors` is set, in the arithmetic type elsewhere.
template <class T, class Stored, unsigned tensors, size_t k>
using Element = std::conditional_t<(tensors >> k & 1) != 0, Stored, T>;

template <class F, class T, class Stored, size_t... I, size_t... O>
FASTVAE_FN void loop(const Constants<T>& c, const void* const* in, void* const* out, int64_t n,
                     std::index_sequence<I...>, std::index_sequence<O...>) {
  const std::tuple<const Element<T, Stored, F::tensor_inputs, I>*...> x{
      static_cast<const Element<T, Stored, F::tensor_inputs, I>*>(in[I])...};
  T* const y[] = {static_cast<T*>(out[O])...};
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) F::at(c, load(std::get<I>(x)[i])..., y[O][i]...);
}

template <class F, class T, class Stored>
void run_loop(const Constants<double>& c, const void* const* in, void* const* out, int64_t n) {
  Constants<T> constants{T(c.clamp_lo), T(c.clamp_hi),       T(c.scale_eps), T(c.free_bits),
                         T(c.x_scale),  T(c.log_normalizer), T(c.beta),      T(c.share)};
  auto inputs = std::make_index_sequence<F::inputs>();
  auto outputs = std::make_index_sequence<F::outputs>();
  bool plain = c.clamp_lo == -INFINITY && c.clamp_hi == INFINITY && c.free_bits == 0 && c.x_scale == 1;
  if (!plain) return loop<F, T, Stored>(constants, in, out, n, inputs, outputs);
  // The usual call again, with what is usual known to the compiler: a third of the instructions fall away.
  constants.clamp_lo = -INFINITY;
  constants.clamp_hi = INFINITY;
  constants.free_bits = 0;
  constants.x_scale = 1;
  loop<F, T, Stored>(constants, in, out, n, inputs, outputs);
}

}  // namespace fastvae::FASTVAE_ISA
