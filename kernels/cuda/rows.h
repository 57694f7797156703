// How a thread works through its share of a row: load, formula, weight, store or sum. No formula is known here.
#pragma once

#include <utility>

#include "samples.h"

namespace fastvae::FASTVAE_ISA {

FASTVAE_FN const Constants<float>& constants(const Task& task, float) { return task.constants_f32; }
FASTVAE_FN const Constants<double>& constants(const Task& task, double) { return task.constants; }

FASTVAE_FN bool is_summed(const Operand& output) { return output.summed && output.data != nullptr; }

template <class T>
FASTVAE_FN bool is_closed(const Task& task) {
  return task.gate != nullptr && *static_cast<const T*>(task.gate) == T(-1);
}

template <class T>
FASTVAE_FN void store_sum(const Task& task, const Operand& output, int64_t row, double total) {
  static_cast<T*>(output.data)[row] = static_cast<T>(total * task.sum_scale);
}

// A row's sum, or a chunk's.
template <class T>
FASTVAE_FN void store_team_sum(const Task& task, const Share& share, int k, T total) {
  if (task.chunks == 1) store_sum<T>(task, task.output[k], share.row, total);
  else static_cast<T*>(task.partial)[(k * task.rows + share.row) * task.chunks + share.chunk] = total;
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

template <class F, class T, int width, size_t... I, size_t... O>
FASTVAE_FN void apply(const Task& task, const T (&x)[F::inputs][width], T (&y)[F::outputs][width],
                      std::index_sequence<I...>, std::index_sequence<O...>) {
  FASTVAE_UNROLL
  for (int e = 0; e < width; ++e) F::at(constants(task, T()), x[I][e]..., y[O][e]...);
}

// Where the weight is zero the result is zero, NaN or not.
template <class T, int outputs, int width>
FASTVAE_FN void apply_weight(const T (&weight)[width], T (&y)[outputs][width]) {
  for (int k = 0; k < outputs; ++k)
    for (int e = 0; e < width; ++e) y[k][e] = weight[e] == T(0) ? T(0) : y[k][e] * weight[e];
}

// `F` computes in A::T; its sampled inputs come last: noise is one, sums over samples are two.
template <class F, class A, Sampling sampling>
FASTVAE_FN void walk_share(const Task& task, const Share& share, typename A::T (&sums)[F::outputs]) {
  using T = typename A::T;
  constexpr int sampled = sampling == Sampling::none ? 0 : sampling == Sampling::noise ? 1 : 2;
  constexpr int read = F::inputs - sampled;
  for (int k = 0; k < F::outputs; ++k) sums[k] = T(0);
  if (share.first >= share.end) return;

  Row<A> in_row[read], out_row[F::outputs];
  for (int k = 0; k < read; ++k) in_row[k] = row_of<A>(task, task.input[k], share);
  for (int k = 0; k < F::outputs; ++k) out_row[k] = row_of<A>(task, task.output[k], share);
  Row<A> weight_row = row_of<A>(task, task.weight, share);
  SampleRow<A> samples = {};
  if constexpr (sampled > 0) samples = sample_row<A>(task, share);

  FASTVAE_ROLLED
  for (int position = share.first; position < share.end; position += share.step) {
    Unit unit = unit_at<A>(share, position);
    Raw<A> raw[read], raw_weight = {};
    T x[F::inputs][A::width], y[F::outputs][A::width];
    FASTVAE_UNROLL
    for (int k = 0; k < read; ++k) raw[k] = load<A>(task, task.input[k], in_row[k], unit);
    if (task.weighted) raw_weight = load<A>(task, task.weight, weight_row, unit);
    if constexpr (sampling == Sampling::noise) sample_noise<A>(task, samples, 0, unit, x[read]);
    if constexpr (sampling == Sampling::gradient) sum_samples<A>(task, samples, unit, x[read], x[read + 1]);
    FASTVAE_UNROLL
    for (int k = 0; k < read; ++k) convert(task.input[k], raw[k], x[k]);
    apply<F>(task, x, y, std::make_index_sequence<F::inputs>(), std::make_index_sequence<F::outputs>());
    if (task.weighted) {
      T weight[A::width];
      convert(task.weight, raw_weight, weight);
      apply_weight(weight, y);
    }
    FASTVAE_UNROLL
    for (int k = 0; k < F::outputs; ++k) {
      if (task.output[k].summed) sums[k] += sum(unit, y[k]);
      else if (task.output[k].data != nullptr) store<A>(task, task.output[k], out_row[k], unit, y[k]);
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
