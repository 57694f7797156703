// Rows of few classes, x an index into each: many abreast, a lane each, so that they share what every row costs.
#pragma once

#include "row_job.h"
#include "sums.h"
#include "tiles.h"

namespace fastvae::FASTVAE_ISA {

// out[c * out_step + r] = in[r * in_step + c], four by four where that is a few shuffles.
template <class T>
void transpose(const T* in, int64_t in_step, int64_t rows, int64_t cols, T* out, int64_t out_step) {
  int64_t whole_rows = 0, whole_cols = 0;
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
  if constexpr (sizeof(T) == 4) {
    using Four = typename Register<T, 16>::Type;
    whole_rows = rows & ~int64_t(3), whole_cols = cols & ~int64_t(3);
    for (int64_t r = 0; r < whole_rows; r += 4)
      for (int64_t c = 0; c < whole_cols; c += 4) {
        Four row[4];
        for (int i = 0; i < 4; ++i) row[i] = load_register<Four>(in + (r + i) * in_step + c);
        Four a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5),
             b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
        Four e = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7),
             f = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
        Four column[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                          __builtin_shufflevector(e, f, 0, 1, 4, 5), __builtin_shufflevector(e, f, 2, 3, 6, 7)};
        for (int i = 0; i < 4; ++i) memcpy(out + (c + i) * out_step + r, &column[i], sizeof(Four));
      }
  }
#endif
#endif
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) out[c * out_step + r] = in[r * in_step + c];
}

template <class T>
class RowsAbreast {
 public:
  static constexpr int64_t kMostClasses = 256;  // from there on a row by itself takes no longer

  explicit RowsAbreast(const ValuedRowJob& job)
      : job_(job), logits_(job.logits()), grad_(job.output[job.outputs - 1]) {}

  void walk(int64_t first, int64_t last) {
    for (; first < last; first += kRows) {
      Tile tile{first, last - first < kRows ? last - first : kRows, 0, job_.cols};
      if (tile.rows > kRows / 2) rows<kRows>(tile);
      else rows<kRows / 2>(tile);
    }
  }

 private:
  static constexpr int64_t kRows = 32;
  template <class Number>
  using Lanes = Number[kRows];

  const ValuedRowJob& job_;
  const Operand &logits_, &grad_;
  alignas(64) T buffer_[kRows * kMostClasses];  // rows
  alignas(64) Lanes<T> columns_[kMostClasses];  // logits
  alignas(64) Lanes<T> results_[kMostClasses];  // what is e^(logit - largest) at first, gradients then
  Lanes<double> index_, weight_, upstream_, tail_;
  Lanes<T> largest_, ties_, at_, scale_, masked_, expected_, complement_, dominant_;

  // `lanes` is known, so that the loops over them are whole registers.
  template <int64_t lanes>
  void rows(const Tile& tile) {
    read_numbers(job_.x(), tile, index_);
    fill(weight_, kRows, 1.0);
    if (job_.weighted) read_numbers(job_.weight, tile, weight_);
    read_columns(tile);
    for (int64_t k = 0; k < tile.cols; ++k) fill(columns_[k] + tile.rows, lanes - tile.rows, T(0));
    sum_up<lanes>(tile.cols);
    for (int64_t r = 0; r < tile.rows; ++r) settle(tile, r);
    if (job_.gives_gradients()) give_gradients<lanes>(tile);
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

  void read_columns(const Tile& tile) {
    const T* in = in_place<T>(job_, logits_, tile);
    for (int64_t r = 0; in == nullptr && r < tile.rows; ++r)
      for_runs(job_, logits_, tile.row + r, 0, tile.cols, [&](int64_t at, int64_t offset, int64_t stride, int64_t n) {
        read<T>(logits_.type, logits_.data, offset, stride, n, buffer_ + r * tile.cols + at);
      });
    if (in == nullptr) in = buffer_;
    transpose(in, tile.cols, tile.rows, tile.cols, columns_[0], kRows);
  }

  template <int64_t lanes>
  void sum_up(int64_t classes) {
    fill(largest_, kRows, -T(INFINITY));
    fill(ties_, kRows, T(0));
    fill(tail_, kRows, 0.0);
    for (int64_t k = 0; k < classes; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r) largest_[r] = max(largest_[r], columns_[k][r]);
    }
    for (int64_t k = 0; k < classes; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r) {
        bool tied = columns_[k][r] == largest_[r];
        T decay = exp_decay(choose(tied, T(0), columns_[k][r] - largest_[r]));
        results_[k][r] = decay;
        ties_[r] += choose(tied, T(1), T(0));
        tail_[r] += double(choose(tied, T(0), decay));
      }
    }
  }

  void settle(const Tile& tile, int64_t r) {
    bool is_class = index_[r] >= 0 && index_[r] < double(tile.cols);
    int64_t at = is_class ? int64_t(index_[r]) : -1;
    double logit = is_class ? double(columns_[at][r]) : double(NAN);
    RowSums sums = settled(of_class({double(largest_[r]), tail_[r] + double(ties_[r] - T(1)), 0, 0}, logit));
    if (job_.gives_values()) {
      double value = weight_[r] == 0 ? 0 : weight_[r] * log_prob_of<T>(sums, {}, false);
      job_.values[tile.row + r] = job_.direction == Direction::one_pass ? value * job_.constants.factor : value;
    }
    Classes<T> row(sums, false);
    at_[r] = T(at), expected_[r] = row.expected, complement_[r] = row.complement, dominant_[r] = row.dominant;
  }

  template <int64_t lanes>
  void give_gradients(const Tile& tile) {
    fill(upstream_, kRows, -job_.constants.factor);
    if (job_.direction == Direction::gradient) read_numbers(job_.input[0], tile, upstream_);
    for (int64_t r = 0; r < tile.rows; ++r) {
      scale_[r] = T(upstream_[r] * weight_[r]);
      masked_[r] = T(weight_[r] == 0);
    }
    for (int64_t k = 0; k < tile.cols; ++k) {
#pragma GCC ivdep
      for (int64_t r = 0; r < lanes; ++r) {
        T x = choose(at_[r] == T(k), T(1), T(0));
        T grad = less_expected(x, columns_[k][r], results_[k][r], T(1), expected_[r], complement_[r], dominant_[r]);
        results_[k][r] = choose(masked_[r] != T(0), T(0), scale_[r] * grad);
      }
    }
    T* direct = in_place<T>(job_, grad_, tile);
    T* out = direct != nullptr ? direct : buffer_;
    transpose(results_[0], kRows, tile.cols, tile.rows, out, tile.cols);
    if (direct == nullptr) write_tile<T>(job_, grad_, tile, out);
  }
};

}  // namespace fastvae::FASTVAE_ISA
