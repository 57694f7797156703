// How a thread works through its stretch of a row: load, formula, weight, store or sum. No formula is known here.
#pragma once

#include <utility>

#include "samples.h"

namespace fastvae::FASTVAE_ISA {

FASTVAE_FN const Constants<float>& constants(const CutJob& job, float) { return job.constants_f32; }
FASTVAE_FN const Constants<double>& constants(const CutJob& job, double) { return job.constants; }

// A row's sum, or a chunk's.
template <class T>
FASTVAE_FN void store_team_sum(const CutJob& job, const Stretch& stretch, int k, T total) {
  if (job.chunks == 1) store_sum<T>(job, job.output[k], stretch.row, total);
  else static_cast<T*>(job.partial)[(k * job.rows + stretch.row) * job.chunks + stretch.chunk] = total;
}

// A unit's sum, by pairs.
template <class T, int width>
FASTVAE_FN T sum(const Unit& unit, const T (&y)[width]) {
  T x[width];
  for (int e = 0; e < width; ++e) x[e] = is_valid(unit, e) ? y[e] : T(0);
  FASTVAE_UNROLL
  for (int half = width / 2; half > 0; half /= 2)
    for (int e = 0; e < half; ++e) x[e] += x[e + half];
  return x[0];
}

template <class D, class T, int width, size_t... I, size_t... O>
FASTVAE_FN void apply(const CutJob& job, const T (&x)[D::inputs][width], T (&y)[D::outputs][width],
                      std::index_sequence<I...>, std::index_sequence<O...>) {
  FASTVAE_UNROLL
  for (int e = 0; e < width; ++e) {
    const T inputs[] = {x[I][e]...};
    T outputs[D::outputs];
    D::at(constants(job, T()), inputs, outputs);
    ((y[O][e] = outputs[O]), ...);
  }
}

// Where the weight is zero the result is zero, NaN or not.
template <class T, int outputs, int width>
FASTVAE_FN void apply_weight(const T (&weight)[width], T (&y)[outputs][width]) {
  for (int k = 0; k < outputs; ++k)
    for (int e = 0; e < width; ++e) y[k][e] = weight[e] == T(0) ? T(0) : y[k][e] * weight[e];
}

// `D` computes in A::T; its sampled inputs come last: noise is one, sums over samples are two.
template <class D, class A>
FASTVAE_FN void walk_stretch(const CutJob& job, const Stretch& stretch, typename A::T (&sums)[D::outputs]) {
  using T = typename A::T;
  constexpr int read = D::inputs - D::sampled;
  for (int k = 0; k < D::outputs; ++k) sums[k] = T(0);
  if (stretch.first >= stretch.end) return;

  Row<A> in_row[read], out_row[D::outputs];
  for (int k = 0; k < read; ++k) in_row[k] = row_of<A>(job, job.input[k], stretch);
  for (int k = 0; k < D::outputs; ++k) out_row[k] = row_of<A>(job, job.output[k], stretch);
  Row<A> weight_row = row_of<A>(job, job.weight, stretch);
  SampleRow<A> samples = {};
  if constexpr (D::sampled > 0) samples = sample_row<A>(job, stretch);

  FASTVAE_ROLLED
  for (int position = stretch.first; position < stretch.end; position += stretch.step) {
    Unit unit = unit_at<A>(stretch, position);
    Raw<A> raw[read], raw_weight = {};
    T x[D::inputs][A::width], y[D::outputs][A::width];
    FASTVAE_UNROLL
    for (int k = 0; k < read; ++k) raw[k] = load<A>(job, job.input[k], in_row[k], unit);
    if (job.weighted) raw_weight = load<A>(job, job.weight, weight_row, unit);
    if constexpr (D::sampled == 1) sample_noise<A>(job, samples, 0, unit, x[read]);
    if constexpr (D::sampled == 2) sum_samples<A>(job, samples, unit, x[read], x[read + 1]);
    FASTVAE_UNROLL
    for (int k = 0; k < read; ++k) convert(job.input[k], raw[k], x[k]);
    apply<D>(job, x, y, std::make_index_sequence<D::inputs>(), std::make_index_sequence<D::outputs>());
    if (job.weighted) {
      T weight[A::width];
      convert(job.weight, raw_weight, weight);
      apply_weight(weight, y);
    }
    FASTVAE_UNROLL
    for (int k = 0; k < D::outputs; ++k) {
      if (job.output[k].summed) sums[k] += sum(unit, y[k]);
      else if (job.output[k].data != nullptr) store<A>(job, job.output[k], out_row[k], unit, y[k]);
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
