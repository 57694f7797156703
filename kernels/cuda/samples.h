// A formula's last inputs where it samples: noise, or sums over the samples of a gradient and noise.
#pragma once

#include "../math/noise.h"
#include "memory.h"

namespace fastvae::FASTVAE_ISA {

struct Quad {
  float n[4];
};

FASTVAE_FN Quad normals(uint64_t seed, uint64_t block) {
  Block<uint32_t> counter{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
  Block<uint32_t> words = philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  Normals a = box_muller(words.w0, words.w1), b = box_muller(words.w2, words.w3);
  return {{a.n0, a.n1, b.n0, b.n1}};
}

// Those of the first `count` that the block has; `out` is 16-byte aligned.
FASTVAE_FN void store_normals(uint64_t seed, int64_t block, float* out, int64_t count) {
  if (4 * block >= count) return;
  Quad quad = normals(seed, static_cast<uint64_t>(block));
  if (4 * block + 4 <= count) {
    store_words(pack<4>(Type::f32, quad.n).word, 16, reinterpret_cast<char*>(out + 4 * block));
  } else {
    FASTVAE_UNROLL
    for (int e = 0; e < 3; ++e)
      if (4 * block + e < count) out[4 * block + e] = quad.n[e];
  }
}

// Called, since the rare way must not cost the others registers.
FASTVAE_CALL float normal(uint64_t seed, uint64_t number) {
  Quad quad = normals(seed, number / 4);
  float low = number & 1 ? quad.n[1] : quad.n[0], high = number & 1 ? quad.n[3] : quad.n[2];
  return number & 2 ? high : low;
}

template <class A>
FASTVAE_FN void noise_one_by_one(uint64_t seed, uint64_t first, typename A::T (&eps)[A::width]) {
  FASTVAE_ROLLED
  for (int e = 0; e < A::width; ++e) {
    float drawn = normal(seed, first + e);
    for (int other = 0; other < A::width; ++other) eps[other] = other == e ? drawn : eps[other];
  }
}

// Noise of the elements from number `first` on: whole counters; in lots that are not dense, any.
template <class A>
FASTVAE_FN void noise(uint64_t seed, uint64_t first, typename A::T (&eps)[A::width]) {
  if constexpr (A::width == 1) {
    noise_one_by_one<A>(seed, first, eps);
  } else {
    if (!kDense<A> && (first & 3) != 0) return noise_one_by_one<A>(seed, first, eps);
    FASTVAE_UNROLL
    for (int q = 0; q < A::width; q += 4) {
      Quad quad = normals(seed, (first + q) / 4);
      for (int e = 0; e < 4; ++e) eps[q + e] = quad.n[e];
    }
  }
}

// Where a row's noise and gradient begin.
struct SampleRow {
  uint64_t seed;
  int64_t first;  // number of the element at column 0
  char *eps, *grad;
};

template <class A>
FASTVAE_FN SampleRow sample_row(const CutJob& job, const Stretch& stretch) {
  int64_t first = stretch.row * job.cols + (kDense<A> ? stretch.first_col : 0);
  return {!kPlain<A> && job.has_eps ? 0 : *job.seed, first, row_of<A>(job, job.eps, stretch),
          row_of<A>(job, job.grad_z, stretch)};
}

template <class A>
FASTVAE_FN void load_values(const Operand& operand, const char* row, const Unit& unit, typename A::T (&x)[A::width]) {
  if (is_held(operand)) {
    hold(operand, row, x);
  } else {
    convert<A>(operand, load<A>(operand, row, unit), x);
  }
}

FASTVAE_FN char* advance(const Operand& operand, char* row, int64_t elements) {
  return row + (elements << log_bytes(operand.type));
}

template <class A>
FASTVAE_FN void sample_noise(const CutJob& job, const SampleRow& at, int64_t k, const Unit& unit,
                             typename A::T (&eps)[A::width]) {
  if (!kPlain<A> && job.has_eps)
    load_values<A>(job.eps, advance(job.eps, at.eps, k * job.eps_sample_stride), unit, eps);
  else noise<A>(at.seed, static_cast<uint64_t>(k * job.rows * job.cols + at.first + unit.col), eps);
}

template <class A>
FASTVAE_FN void sample_gradient(const CutJob& job, const SampleRow& at, int64_t k, const Unit& unit,
                                typename A::T (&grad)[A::width], typename A::T (&grad_eps)[A::width]) {
  typename A::T eps[A::width];
  char* row = kPlain<A> ? at.grad : advance(job.grad_z, at.grad, k * job.grad_sample_stride);
  if (!kPlain<A> && is_held(job.grad_z)) {
    load_values<A>(job.grad_z, row, unit, grad);
    sample_noise<A>(job, at, k, unit, eps);
  } else {
    Raw<A> raw = load<A>(job.grad_z, row, unit);
    sample_noise<A>(job, at, k, unit, eps);
    convert<A>(job.grad_z, raw, grad);
  }
  for (int e = 0; e < A::width; ++e) grad_eps[e] = grad[e] * eps[e];
}

// Sums over the samples of grad_z and grad_z * eps, samples in their order.
template <class A>
FASTVAE_FN void sum_samples(const CutJob& job, const SampleRow& at, const Unit& unit, typename A::T (&sum)[A::width],
                            typename A::T (&sum_eps)[A::width]) {
  using T = typename A::T;
  if constexpr (kPlain<A>) {
    sample_gradient<A>(job, at, 0, unit, sum, sum_eps);
  } else {
    T lost[A::width], lost_eps[A::width];
    for (int e = 0; e < A::width; ++e) sum[e] = sum_eps[e] = lost[e] = lost_eps[e] = T(0);
    if (job.grad_z.data == nullptr) return;
    sample_gradient<A>(job, at, 0, unit, sum, sum_eps);
    FASTVAE_ROLLED
    for (int64_t k = 1; k < job.samples; ++k) {
      T grad[A::width], grad_eps[A::width];
      sample_gradient<A>(job, at, k, unit, grad, grad_eps);
      for (int e = 0; e < A::width; ++e) {
        add_compensated(grad[e], sum[e], lost[e]);
        add_compensated(grad_eps[e], sum_eps[e], lost_eps[e]);
      }
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
