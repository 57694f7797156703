// A formula's last inputs where it samples: noise, or sums over the samples of a gradient and noise.
#pragma once

#include "../math/noise.h"
#include "memory.h"

namespace fastvae::FASTVAE_ISA {

struct Quad {
  float n[4];
};

FASTVAE_FN Quad normals(uint64_t seed, uint64_t block) {
  Block<uint64_t> words = philox(Block<uint64_t>{block & 0xffffffffu, block >> 32, 0, 0}, static_cast<uint32_t>(seed),
                                 static_cast<uint32_t>(seed >> 32));
  Normals a = box_muller(static_cast<uint32_t>(words.w0), static_cast<uint32_t>(words.w1));
  Normals b = box_muller(static_cast<uint32_t>(words.w2), static_cast<uint32_t>(words.w3));
  return {{a.n0, a.n1, b.n0, b.n1}};
}

// Those of the first `count` that the block has; `out` is 16-byte aligned.
FASTVAE_FN void store_normals(uint64_t seed, int64_t block, float* out, int64_t count) {
  if (4 * block >= count) return;
  Quad quad = normals(seed, static_cast<uint64_t>(block));
  Packed packed;
  memcpy(packed.word, quad.n, sizeof(quad.n));
  char* at = reinterpret_cast<char*>(out + 4 * block);
  if (4 * block + 4 <= count) store_words(packed, 16, at);
  else
    for (int e = 0; 4 * block + e < count; ++e) store_narrow(packed, e, 2, at + 4 * e);
}

// Noise of the elements from number `first` on: whole counters, or one element of one.
template <class T, int width>
FASTVAE_FN void noise(uint64_t seed, uint64_t first, T (&eps)[width]) {
  if constexpr (width == 1) {
    Quad quad = normals(seed, first / 4);
    float low = first & 1 ? quad.n[1] : quad.n[0], high = first & 1 ? quad.n[3] : quad.n[2];
    eps[0] = first & 2 ? high : low;
  } else {
    FASTVAE_UNROLL
    for (int q = 0; q < width; q += 4) {
      Quad quad = normals(seed, (first + q) / 4);
      for (int e = 0; e < 4; ++e) eps[q + e] = quad.n[e];
    }
  }
}

// Where a row's noise and gradient begin.
template <class A>
struct SampleRow {
  uint64_t seed;
  int64_t row;
  Row<A> eps, grad;
};

template <class A>
FASTVAE_FN SampleRow<A> sample_row(const CutJob& job, const Stretch& stretch) {
  return {job.has_eps ? 0 : *job.seed, stretch.row, row_of<A>(job, job.eps, stretch),
          row_of<A>(job, job.grad_z, stretch)};
}

template <class A>
FASTVAE_FN void sample_noise(const CutJob& job, const SampleRow<A>& at, int64_t k, const Unit& unit,
                             typename A::T (&eps)[A::width]) {
  if (job.has_eps) {
    Row<A> row = advance<A>(job.eps, at.eps, k * job.eps_sample_stride);
    convert(job.eps, load<A>(job, job.eps, row, unit), eps);
  } else {
    noise(at.seed, static_cast<uint64_t>((k * job.rows + at.row) * job.cols + unit.col), eps);
  }
}

// Sums over the samples of grad_z and grad_z * eps, samples in their order.
template <class A>
FASTVAE_FN void sum_samples(const CutJob& job, const SampleRow<A>& at, const Unit& unit, typename A::T (&sum)[A::width],
                            typename A::T (&sum_eps)[A::width]) {
  using T = typename A::T;
  T lost[A::width], lost_eps[A::width];
  for (int e = 0; e < A::width; ++e) sum[e] = sum_eps[e] = lost[e] = lost_eps[e] = T(0);
  if (job.grad_z.data == nullptr) return;
  FASTVAE_ROLLED
  for (int64_t k = 0; k < job.samples; ++k) {
    T grad[A::width], eps[A::width];
    Row<A> row = advance<A>(job.grad_z, at.grad, k * job.grad_sample_stride);
    Raw<A> raw = load<A>(job, job.grad_z, row, unit);
    sample_noise<A>(job, at, k, unit, eps);
    convert(job.grad_z, raw, grad);
    if (k == 0) {  // usually the only one
      for (int e = 0; e < A::width; ++e) sum[e] = grad[e], sum_eps[e] = grad[e] * eps[e];
      continue;
    }
    for (int e = 0; e < A::width; ++e) {
      add_compensated(grad[e], sum[e], lost[e]);
      add_compensated(grad[e] * eps[e], sum_eps[e], lost_eps[e]);
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
