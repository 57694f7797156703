// Rows of no more than a tile's classes, x an index into each: many abreast, so that they share what every row costs.
#pragma once

#include "row_job.h"
#include "tiles.h"
#include "transpose.h"

namespace fastvae::FASTVAE_ISA {

// Without counts; `decays` are e^(logit - largest), 0 for those of the largest. `sum` reads beyond them.
template <class T>
RowSums sums_of_logits(const T* logits, int64_t n, T* decays) {
  T largest = greatest(logits, n);
  int32_t ties = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    bool tied = logits[i] == largest;
    ties += int32_t(tied);
    decays[i] = choose(tied, T(0), exp_decay(choose(tied, T(0), logits[i] - largest)));
  }
  return {double(largest), double(sum(decays, n)) + (ties - 1), 0, 0};
}

template <class T>
class RowsAbreast {
 public:
  static constexpr int64_t kMostClasses = kTile;  // beyond, what a row costs by itself is little

  explicit RowsAbreast(const ValuedRowJob& job)
      : job_(job), logits_(job.logits()), grad_(job.output[job.outputs - 1]) {}

  void walk(int64_t first, int64_t last) {
    int64_t most = kElements / (job_.cols > 0 ? job_.cols : 1);
    most = most < kRows ? most : kRows;
    for (; first < last; first += most) {
      Tile tile{first, last - first < most ? last - first : most, 0, job_.cols};
      if (tile.rows > kRows / 2) rows<kRows>(tile);
      else rows<kRows / 2>(tile);
    }
  }

 private:
  static constexpr int64_t kRows = 32, kElements = 8 * kTile;
  static constexpr int64_t kFewClasses = 128;  // that are taken by columns, a lane for each row
  template <class Number>
  using Lanes = Number[kRows];

  const ValuedRowJob& job_;
  const Operand &logits_, &grad_;
  alignas(64) T buffer_[kElements];
  alignas(64) T decays_[kElements + kSumPadding];  // e^(logit - largest), without those of the largest; by rows
  alignas(64) Lanes<T> columns_[kFewClasses], results_[kFewClasses];
  Lanes<double> index_ = {}, weight_ = {}, upstream_ = {}, tail_ = {}, logit_ = {}, value_ = {};
  Lanes<T> largest_ = {}, ties_ = {}, at_ = {}, scale_ = {}, masked_ = {}, expected_ = {}, complement_ = {},
           dominant_ = {};

  // `lanes` is known, so that loops over them are whole registers.
  template <int64_t lanes>
  void rows(const Tile& tile) {
    read_numbers(job_.x(), tile, index_);
    fill(weight_, kRows, 1.0);
    if (job_.weighted) read_numbers(job_.weight, tile, weight_);
    const T* in = read_logits(tile);
    if (tile.cols > kFewClasses) sum_rows(tile, in);
    else sum_columns<lanes>(tile, in);
    settle(tile, in);
    if (job_.gives_gradients()) give_gradients<lanes>(tile, in);
  }

  // Of each row one.
  void read_numbers(const Operand& operand, const Tile& tile, double* out) const {
    auto read_from = [&](int64_t row, int64_t stride, int64_t n, double* to) {
      int64_t offset = offset_of(job_, operand, 0, job_.batch_ndim, row);
      read<double>(operand.type, operand.data, offset, stride, n, to);
    };
    if (operand.data == nullptr) return fill(out, tile.rows, operand.fill);
    if (job_.batch_ndim == 1) return read_from(tile.row, operand.strides[0], tile.rows, out);
    for (int64_t r = 0; r < tile.rows; ++r) read_from(tile.row + r, 1, 1, out + r);
  }

  const T* read_logits(const Tile& tile) {
    if (const T* direct = in_place<T>(job_, logits_, tile)) return direct;
    for (int64_t r = 0; r < tile.rows; ++r)
      for_runs(job_, logits_, tile.row + r, 0, tile.cols, [&](int64_t at, int64_t offset, int64_t stride, int64_t n) {
        read<T>(logits_.type, logits_.data, offset, stride, n, buffer_ + r * tile.cols + at);
      });
    return buffer_;
  }

  void sum_rows(const Tile& tile, const T* in) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      RowSums sums = sums_of_logits(in + r * tile.cols, tile.cols, decays_ + r * tile.cols);
      largest_[r] = T(sums.largest), tail_[r] = sums.tail;
    }
  }

  template <int64_t lanes>
  void sum_columns(const Tile& tile, const T* in) {
    transpose(in, tile.cols, tile.rows, tile.cols, columns_[0], kRows);
    for (int64_t k = 0; k < tile.cols; ++k) fill(columns_[k] + tile.rows, lanes - tile.rows, T(0));
    fill(largest_, kRows, -T(INFINITY));
    fill(ties_, kRows, T(0));
    fill(tail_, kRows, 0.0);
    for (int64_t k = 0; k < tile.cols; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r) largest_[r] = max(largest_[r], columns_[k][r]);
    }
    for (int64_t k = 0; k < tile.cols; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r) {
        bool tied = columns_[k][r] == largest_[r];
        T decay = choose(tied, T(0), exp_decay(choose(tied, T(0), columns_[k][r] - largest_[r])));
        results_[k][r] = decay;
        ties_[r] += choose(tied, T(1), T(0));
        tail_[r] += double(decay);
      }
    }
    for (int64_t r = 0; r < lanes; ++r) tail_[r] += double(ties_[r] - T(1));
  }

  void settle(const Tile& tile, const T* in) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      bool is_class = index_[r] >= 0 && index_[r] < double(tile.cols);
      at_[r] = is_class ? T(index_[r]) : T(-1);
      logit_[r] = is_class ? double(in[r * tile.cols + int64_t(index_[r])]) : double(NAN);
    }
    double factor = job_.direction == Direction::one_pass ? job_.constants.factor : 1;
#pragma GCC ivdep
    for (int64_t r = 0; r < kRows; ++r) {
      RowSums sums = settled(of_class({double(largest_[r]), tail_[r], 0, 0}, logit_[r]));
      Classes<T> row(sums, false);
      value_[r] = choose(weight_[r] == 0, 0.0, factor * (weight_[r] * log_prob_of<T>(sums, {}, false)));
      expected_[r] = row.expected, complement_[r] = row.complement, dominant_[r] = row.dominant;
    }
    for (int64_t r = 0; job_.gives_values() && r < tile.rows; ++r) job_.values[tile.row + r] = value_[r];
  }

  template <int64_t lanes>
  void give_gradients(const Tile& tile, const T* in) {
    fill(upstream_, kRows, -job_.constants.factor);
    if (job_.direction == Direction::gradient) read_numbers(job_.input[0], tile, upstream_);
    for (int64_t r = 0; r < tile.rows; ++r) {
      scale_[r] = T(upstream_[r] * weight_[r]);
      masked_[r] = T(weight_[r] == 0);
    }
    T* direct = in_place<T>(job_, grad_, tile);
    T* out = direct != nullptr ? direct : buffer_;
    if (tile.cols > kFewClasses) {
      for (int64_t r = 0; r < tile.rows; ++r) row_gradient(tile, r, in + r * tile.cols, out + r * tile.cols);
    } else {
      columns_gradient<lanes>(tile, out);
    }
    if (direct == nullptr) write_tile<T>(job_, grad_, tile, out);
  }

  // x - p of a class, times `scale`; its decay as it was kept.
  static FASTVAE_FN T gradient(T x, T logit, T decay, T largest, T expected, T complement, T dominant, T scale) {
    T of_it = choose(logit == largest, T(1), decay);
    return scale * less_expected(x, logit, of_it, T(1), expected, complement, dominant);
  }

  void row_gradient(const Tile& tile, int64_t r, const T* logits, T* out) const {
    if (masked_[r] != T(0)) return fill(out, tile.cols, T(0));
    const T* decays = decays_ + r * tile.cols;
    T largest = largest_[r], expected = expected_[r], complement = complement_[r], dominant = dominant_[r];
    auto of = [=, scale = scale_[r]](T x, T logit, T decay) {
      return gradient(x, logit, decay, largest, expected, complement, dominant, scale);
    };
    int64_t at = int64_t(at_[r]);
    T of_class = at < 0 ? T(0) : of(T(1), logits[at], decays[at]);
#pragma GCC ivdep
    for (int64_t k = 0; k < tile.cols; ++k) out[k] = of(T(0), logits[k], decays[k]);
    if (at >= 0) out[at] = of_class;
  }

  template <int64_t lanes>
  void columns_gradient(const Tile& tile, T* out) {
    for (int64_t k = 0; k < tile.cols; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r)
        results_[k][r] = choose(masked_[r] != T(0), T(0),
                                gradient(choose(at_[r] == T(k), T(1), T(0)), columns_[k][r], results_[k][r],
                                         largest_[r], expected_[r], complement_[r], dominant_[r], scale_[r]));
    }
    transpose(results_[0], kRows, tile.cols, tile.rows, out, tile.cols);
  }
};

}  // namespace fastvae::FASTVAE_ISA
