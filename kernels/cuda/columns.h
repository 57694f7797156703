// How a thread works down the rows of a few columns, where rows share gradients element by element: their sums stay in
// registers. Rows are numbered by [outer, those gone down, inside].
#pragma once

#include "rows.h"

namespace fastvae::FASTVAE_ISA {

struct Place {
  int64_t outer, copy, inside, chunk;
  int64_t first, last;  // of the rows gone down
  int lane;             // among the threads of the row
  Unit unit;
};

FASTVAE_FN Place place_of(const CutJob& job, int64_t tile, int thread) {
  constexpr int width = General::width;
  Place place;
  int64_t rows_per_tile = kThreads >> job.log_lanes, groups = quotient(job.copies + rows_per_tile - 1, rows_per_tile);
  int64_t of_rows = quotient(tile, groups * job.chunks), within = tile - of_rows * groups * job.chunks;
  int64_t group = quotient(within, job.chunks);
  place.chunk = within - group * job.chunks;
  place.outer = quotient(of_rows, job.rows_inside);
  place.inside = of_rows - place.outer * job.rows_inside;
  place.copy = group * rows_per_tile + (thread >> job.log_lanes);
  place.first = place.copy * job.rows_each;
  place.last = place.first + job.rows_each < job.rows_down ? place.first + job.rows_each : job.rows_down;
  place.lane = thread & ((1 << job.log_lanes) - 1);
  place.unit.col = ((place.chunk << job.log_lanes) + place.lane) * width;
  int64_t rest = place.copy < job.copies ? job.cols - place.unit.col : 0;
  place.unit.valid = rest >= width ? (1u << width) - 1 : rest > 0 ? (1u << rest) - 1 : 0;
  return place;
}

// Of an output's terms by [outer, copy, inside], each `size` long.
FASTVAE_FN float* terms_at(const CutJob& job, int k, const Place& place, int64_t size) {
  int64_t index = (place.outer * job.copies + place.copy) * job.rows_inside + place.inside;
  return static_cast<float*>(job.terms[k]) + index * size;
}

FASTVAE_FN char* next_row(const CutJob& job, const Operand& operand, char* row) {
  return advance(operand, row, operand.strides[job.down]);
}

template <class D>
FASTVAE_FN void go_down(const CutJob& job, Rows<D>& rows, float (&x)[D::inputs][General::width]) {
  FASTVAE_UNROLL
  for (int k = 0; k < rows.read; ++k) {
    const Operand& input = job.input[k];
    rows.input[k] = next_row(job, input, rows.input[k]);
    if (is_held(job, k)) hold(input, rows.input[k], x[k]);
  }
  FASTVAE_UNROLL
  for (int k = 0; k < D::outputs; ++k) rows.output[k] = next_row(job, job.output[k], rows.output[k]);
  rows.weight = next_row(job, job.weight, rows.weight);
  rows.samples.eps = next_row(job, job.eps, rows.samples.eps);
  rows.samples.grad = next_row(job, job.grad_z, rows.samples.grad);
  rows.samples.first += job.rows_inside * job.cols;
}

template <class D>
FASTVAE_FN void walk_down(const CutJob& job, const Place& place, float (&sums)[D::outputs][General::width]) {
  constexpr int width = General::width;
  float lost[D::outputs][width];
  for (int k = 0; k < D::outputs; ++k)
    for (int e = 0; e < width; ++e) sums[k][e] = lost[k][e] = 0;
  if (place.unit.valid == 0) return;
  Stretch stretch = {};
  stretch.row = (place.outer * job.rows_down + place.first) * job.rows_inside + place.inside;
  float x[D::inputs][width];
  Rows<D> rows = rows_at<D, General>(job, stretch, x);
  FASTVAE_ROLLED
  for (int64_t row = place.first; row < place.last; ++row) {
    float y[D::outputs][width];
    compute_unit<D, General>(job, rows, place.unit, x, y);
    FASTVAE_UNROLL
    for (int k = 0; k < D::outputs; ++k) {
      if (has(job, Fate::stored, k)) store<General>(job.output[k], rows.output[k], place.unit, y[k]);
      else if (!has(job, Fate::nobody, k))
        for (int e = 0; e < width; ++e) add_compensated(y[k][e], sums[k][e], lost[k][e]);
    }
    if (row + 1 < place.last) go_down(job, rows, x);
  }
}

FASTVAE_FN void store_columns(const CutJob& job, int k, const Place& place, const float (&sums)[General::width]) {
  float* to = terms_at(job, k, place, job.cols) + place.unit.col;
  for (int e = 0; e < General::width; ++e)
    if (is_valid(place.unit, e)) to[e] = sums[e];
}

}  // namespace fastvae::FASTVAE_ISA
