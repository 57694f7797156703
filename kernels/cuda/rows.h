// How a thread works through its stretch of a row: load, formula, weight, store or sum. No formula is known here.
#pragma once

#include <utility>

#include "samples.h"

namespace fastvae::FASTVAE_ISA {

FASTVAE_FN const Constants<float>& constants(const CutJob& job, float) { return job.constants_f32; }
FASTVAE_FN const Constants<double>& constants(const CutJob& job, double) { return job.constants; }

template <class T>
FASTVAE_FN Constants<T> usual(Constants<T> constants) {
  constants.make_usual();
  return constants;
}

// A row's sum, or a chunk's.
template <class T>
FASTVAE_FN void store_team_sum(const CutJob& job, const Stretch& stretch, int k, T total) {
  if (job.terms[k] == nullptr) store_sum<T>(job, job.output[k], stretch.row, total);
  else static_cast<T*>(job.terms[k])[stretch.row * job.chunks + stretch.chunk] = total;
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

// What is long winded takes all registers for an element or two: a branch keeps the compiler from taking up more.
template <class D, class T, int width, size_t... I, size_t... O>
FASTVAE_FN void apply(const CutJob& job, const Constants<T>& c, const T (&x)[D::inputs][width],
                      T (&y)[D::outputs][width], std::index_sequence<I...>, std::index_sequence<O...>) {
  FASTVAE_UNROLL
  for (int e = 0; e < width; ++e) {
    const T inputs[] = {x[I][e]...};
    T outputs[D::outputs] = {};
    if (!D::long_winded || (job.taken >> e & 1)) D::at(c, inputs, outputs);
    ((y[O][e] = outputs[O]), ...);
  }
}

// Where the weight is zero the result is zero, NaN or not.
template <class T, int outputs, int width>
FASTVAE_FN void apply_weight(const T (&weight)[width], T (&y)[outputs][width]) {
  for (int k = 0; k < outputs; ++k)
    for (int e = 0; e < width; ++e) y[k][e] = weight[e] == T(0) ? T(0) : y[k][e] * weight[e];
}

// Where a thread's rows of all operands begin.
template <class D>
struct Rows {
  static constexpr int read = D::inputs - D::sampled;  // from memory
  char *input[read], *output[D::outputs], *weight;
  SampleRow samples;
};

// What a row holds for all its elements is read into `x` here, once.
template <class D, class A>
FASTVAE_FN Rows<D> rows_at(const CutJob& job, const Stretch& stretch, typename A::T (&x)[D::inputs][A::width]) {
  Rows<D> rows = {};
  FASTVAE_UNROLL
  for (int k = 0; k < rows.read; ++k) {
    const Operand& input = job.input[k];
    if (!is_held(job, k)) {
      rows.input[k] = stepping_row<A>(job, input, stretch);
      continue;
    }
    rows.input[k] = held_row<A>(job, input, stretch);
    hold(input, rows.input[k], x[k]);
  }
  FASTVAE_UNROLL
  for (int k = 0; k < D::outputs; ++k) rows.output[k] = stepping_row<A>(job, job.output[k], stretch);
  rows.weight = row_of<A>(job, job.weight, stretch);
  if constexpr (D::sampled > 0) rows.samples = sample_row<A>(job, stretch);
  return rows;
}

// Values of a unit. `D` computes in A::T; its sampled inputs come last: noise is one, sums over samples are two.
template <class D, class A>
FASTVAE_FN void compute_unit(const CutJob& job, const Rows<D>& rows, const Unit& unit,
                             typename A::T (&x)[D::inputs][A::width], typename A::T (&y)[D::outputs][A::width]) {
  constexpr int read = Rows<D>::read;
  Raw<A> raw[read];
  FASTVAE_UNROLL
  for (int k = 0; k < read; ++k)
    if (!is_held(job, k)) raw[k] = load<A>(job.input[k], rows.input[k], unit);
  if constexpr (D::sampled == 1) sample_noise<A>(job, rows.samples, 0, unit, x[read]);
  if constexpr (D::sampled == 2) sum_samples<A>(job, rows.samples, unit, x[read], x[read + 1]);
  FASTVAE_UNROLL
  for (int k = 0; k < read; ++k)
    if (!is_held(job, k)) convert<A>(job.input[k], raw[k], x[k]);
  const Constants<typename A::T>& given = constants(job, typename A::T());
  auto of_inputs = std::make_index_sequence<D::inputs>();
  auto of_outputs = std::make_index_sequence<D::outputs>();
  if constexpr (kUsual<A>) apply<D>(job, usual(given), x, y, of_inputs, of_outputs);
  else apply<D>(job, given, x, y, of_inputs, of_outputs);
  if constexpr (!kPlain<A>) {
    if (!job.weighted) return;
    typename A::T weight[A::width];
    load_values<A>(job.weight, rows.weight, unit, weight);
    apply_weight(weight, y);
  }
}

template <class D, class A>
FASTVAE_FN void walk_stretch(const CutJob& job, const Stretch& stretch, typename A::T (&sums)[D::outputs]) {
  using T = typename A::T;
  for (int k = 0; k < D::outputs; ++k) sums[k] = T(0);
  if (stretch.first >= stretch.end) return;
  T x[D::inputs][A::width];
  Rows<D> rows = rows_at<D, A>(job, stretch, x);
  FASTVAE_ROLLED
  for (int position = stretch.first; position < stretch.end; position += stretch.step) {
    Unit unit = unit_at<A>(stretch, position);
    T y[D::outputs][A::width];
    compute_unit<D, A>(job, rows, unit, x, y);
    FASTVAE_UNROLL
    for (int k = 0; k < D::outputs; ++k) {
      if (has(job, Fate::summed, k)) sums[k] += sum(unit, y[k]);
      else if (has(job, Fate::stored, k)) store<A>(job.output[k], rows.output[k], unit, y[k]);
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
