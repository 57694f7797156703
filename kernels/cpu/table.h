// Formulas of kernels/math as loops over buffers, looked up by name, reading and arithmetic type.
#pragma once

#include <utility>

#include "../math/platform.h"
#include "job.h"

namespace fastvae::FASTVAE_ISA {

using Loop = void (*)(const Constants<double>&, const void* const* in, void* const* out, int64_t n);

struct Table {
  Loop loops[int(Formula::count)][int(fastvae::ScaleAs::count)][2] = {};
  Loop find(const Job& job) const { return loops[int(job.formula)][int(job.scale_as)][job.f64]; }
};

template <class F, class T, size_t... I, size_t... O>
FASTVAE_FN void loop(const Constants<T>& c, const void* const* in, void* const* out, int64_t n,
                     std::index_sequence<I...>, std::index_sequence<O...>) {
  const T* const x[] = {static_cast<const T*>(in[I])...};
  T* const y[] = {static_cast<T*>(out[O])...};
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) F::at(c, x[I][i]..., y[O][i]...);
}

template <class F, class T>
void run_loop(const Constants<double>& c, const void* const* in, void* const* out, int64_t n) {
  Constants<T> constants{T(c.clamp_lo), T(c.clamp_hi),       T(c.scale_eps), T(c.free_bits),
                         T(c.x_scale),  T(c.log_normalizer), T(c.beta),      T(c.share)};
  auto inputs = std::make_index_sequence<F::inputs>();
  auto outputs = std::make_index_sequence<F::outputs>();
  bool plain = c.clamp_lo == -INFINITY && c.clamp_hi == INFINITY && c.free_bits == 0 && c.x_scale == 1;
  if (!plain) return loop<F, T>(constants, in, out, n, inputs, outputs);
  // The usual call again, with what is usual known to the compiler: a third of the instructions fall away.
  constants.clamp_lo = -INFINITY;
  constants.clamp_hi = INFINITY;
  constants.free_bits = 0;
  constants.x_scale = 1;
  loop<F, T>(constants, in, out, n, inputs, outputs);
}

}  // namespace fastvae::FASTVAE_ISA
