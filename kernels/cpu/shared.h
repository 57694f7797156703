// Outputs that several rows, or several elements of one, share: their terms are added up in float64, in an order that
// the shape alone decides.
#pragma once

#include "sums.h"
#include "tiles.h"

namespace fastvae::FASTVAE_ISA {

template <class T>
FASTVAE_FN void add_run(const T* terms, int64_t n, double* sums, int64_t stride) {
  if (stride == 0) {
    *sums += sum(terms, n);
  } else if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) sums[i] += terms[i];
  } else {
    for (int64_t i = 0; i < n; ++i) sums[i * stride] += terms[i];
  }
}

template <class T>
void add_tile(const Job& job, const Operand& output, const Tile& tile, const T* terms, double* sums) {
  bool by_columns = output.row_constant && output.event_contiguous;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const T* row = terms + r * tile.cols;
    if (by_columns) add_run(row, tile.cols, sums + tile.col, 1);
    else
      for_runs(
          job, output, tile.row + r, tile.col, tile.cols,
          [&](int64_t at, int64_t offset, int64_t stride, int64_t n) { add_run(row + at, n, sums + offset, stride); });
  }
}

// Copies meet here, in their order.
template <class T>
void sum_copies(const CutJob& job, int output, int64_t first, int64_t last) {
  T* to = static_cast<T*>(job.output[output].data);
  int64_t size = job.shared_size[output];
  double totals[kTile];
  for (; first < last; first += kTile) {
    int64_t n = last - first < kTile ? last - first : kTile;
    fill(totals, n, 0.0);
    for (int64_t copy = 0; copy < job.copies; ++copy) add_run(job.shared[output] + copy * size + first, n, totals, 1);
    for (int64_t i = 0; i < n; ++i) to[first + i] = static_cast<T>(totals[i]);
  }
}

}  // namespace fastvae::FASTVAE_ISA
