// How rows of classes are walked: once for their sums, once more for what each element is given of them.
#include "../math/categorical.h"

#include "abreast.h"
#include "row_job.h"
#include "sums.h"
#include "tiles.h"

namespace fastvae::FASTVAE_ISA {

namespace {

// Everything one thread holds while it works on parts of rows.
template <class T>
class RowWalker {
 public:
  explicit RowWalker(const ValuedRowJob& job)
      : job_(job), x_(job.x()), logits_(job.logits()), grad_(job.output[job.outputs - 1]) {
    if (job.of_indices) fill(x_buffer_, kTile, T(0));
  }

  void survey(int64_t part) {
    Part at = part_of(part);
    Tile tile = at.first();
    bool any = tile.cols > 0 && weight_of(at.row) != 0;
    RowSums sums = any ? sums_of(tile) : RowSums();
    while (any && (tile = at.next(tile)).cols > 0) sums = sums + sums_of(tile);
    job_.surveyed[part] = sums;
  }

  void settle(int64_t row) {
    RowSums* sums = job_.surveyed + row * job_.parts_per_row;
    for (int64_t part = 1; part < job_.parts_per_row; ++part) sums[0] = sums[0] + sums[part];
    if (job_.cols == 0) sums[0].tail = 0;
    if (job_.of_indices) sums[0] = of_class(sums[0], logit_of_class(row));
    sums[0] = settled(sums[0]);
  }

  void finish(int64_t part) {
    Part at = part_of(part);
    bool has_terms = job_.has_terms(), has_gradient = job_.gives_gradients();
    double weight = weight_of(at.row);
    RowTerms total;
    if (weight != 0 && (has_terms || has_gradient)) {
      Classes<T> row(job_.surveyed[at.row * job_.parts_per_row], has_terms);
      T grad = T(grad_of(at.row) * weight);
      for (Tile tile = at.first(); tile.cols > 0; tile = at.next(tile)) {
        const T *x = read_x(tile), *logits = logits_reader_.read(job_, logits_, tile, logits_buffer_);
        if (has_terms) total = total + terms_of(row, x, logits, tile.cols);
        if (has_gradient) write_gradient(row, grad, x, logits, tile);
      }
    } else if (has_gradient) {
      fill(first_, kTile, T(0));
      for (Tile tile = at.first(); tile.cols > 0; tile = at.next(tile)) write_tile<T>(job_, grad_, tile, first_);
    }
    job_.terms[part] = total;
  }

  void whole(int64_t row) {
    int64_t first = row * job_.parts_per_row, last = first + job_.parts_per_row;
    for (int64_t part = first; part < last; ++part) survey(part);
    settle(row);
    for (int64_t part = first; part < last; ++part) finish(part);
    value(row);
  }

  void value(int64_t row) {
    if (!job_.gives_values()) return;
    double weight = weight_of(row), value = 0;
    if (weight != 0) {
      const RowSums& sums = job_.surveyed[row * job_.parts_per_row];
      RowTerms terms;
      for (int64_t part = 0; part < job_.parts_per_row; ++part)
        terms = terms + job_.terms[row * job_.parts_per_row + part];
      value = weight * log_prob_of<T>(sums, terms, job_.constants.normalized != 0);
      if (job_.direction == Direction::one_pass) value *= job_.constants.factor;
    }
    job_.values[row] = value;
  }

 private:
  struct Part {
    int64_t row, col, last;
    Tile first() const { return tile(col); }
    Tile next(const Tile& tile_) const { return tile(tile_.col + tile_.cols); }
    Tile tile(int64_t from) const { return {row, 1, from, last - from < kTile ? last - from : kTile}; }
  };

  const ValuedRowJob& job_;
  const Operand &x_, &logits_, &grad_;
  alignas(64) T x_buffer_[kTile];
  alignas(64) T logits_buffer_[kTile];
  alignas(64) T first_[kTile + kSumPadding];
  alignas(64) T second_[kTile + kSumPadding];
  alignas(64) T third_[kTile + kSumPadding];
  alignas(64) T fourth_[kTile];
  Reader<T> x_reader_, logits_reader_;

  Part part_of(int64_t part) const { return {part / job_.parts_per_row, job_.first_col(part), job_.last_col(part)}; }

  double element(const Operand& operand, int64_t row, int64_t col) const {
    double value = operand.fill;
    int64_t offset = offset_of(job_, operand, 0, job_.batch_ndim, row) + col * operand.strides[job_.ndim - 1];
    if (operand.data != nullptr) read<double>(operand.type, operand.data, offset, 1, 1, &value);
    return value;
  }

  double weight_of(int64_t row) const { return job_.weighted ? element(job_.weight, row, 0) : 1; }
  double grad_of(int64_t row) const {
    return job_.direction == Direction::gradient ? element(job_.input[0], row, 0) : -job_.constants.factor;
  }

  const T* read_x(const Tile& tile) { return job_.of_indices ? x_buffer_ : x_reader_.read(job_, x_, tile, x_buffer_); }

  // Of indices the class alone has a count: see of_class.
  RowSums sums_of(const Tile& tile) {
    const T* logits = logits_reader_.read(job_, logits_, tile, logits_buffer_);
    return job_.of_indices ? sums_of_logits(logits, tile.cols, first_) : sums_with_counts(tile, logits);
  }

  RowSums sums_with_counts(const Tile& tile, const T* logits) {
    const T* x = read_x(tile);
    T largest = greatest(logits, tile.cols);
    int32_t ties = 0;
#pragma GCC ivdep
    for (int64_t i = 0; i < tile.cols; ++i) {
      bool tied = logits[i] == largest;
      T relative = choose(tied, T(0), logits[i] - largest);
      ties += int32_t(tied);
      first_[i] = choose(tied, T(0), exp_decay(relative));
      second_[i] = x[i];
      third_[i] = choose(x[i] == T(0), T(0), x[i] * relative);
    }
    return {double(largest), double(sum(first_, tile.cols)) + (ties - 1), sum(second_, tile.cols),
            sum(third_, tile.cols)};
  }

  double logit_of_class(int64_t row) const {
    double index = element(x_, row, 0);
    return index >= 0 && index < double(job_.cols) ? element(logits_, row, int64_t(index)) : double(NAN);
  }

  // Most counts are 0, and take no logarithm: the others are brought together first.
  RowTerms terms_of(const Classes<T>& row, const T* x, const T* logits, int64_t n) {
    int64_t some = 0;
    for (int64_t i = 0; i < n; ++i) {
      third_[some] = x[i];
      fourth_[some] = logits[i];
      some += x[i] != T(0);
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) first_[i] = choose(x[i] == T(0), row.mean(logits[i]), T(0));
    double deviances = sum(first_, n);
#pragma GCC ivdep
    for (int64_t i = 0; i < some; ++i) {
      first_[i] = rest_of_factorial(third_[i]);
      second_[i] = row.deviance(third_[i], fourth_[i]);
    }
    return {sum(first_, some), deviances + sum(second_, some)};
  }

  void write_gradient(const Classes<T>& row, T grad, const T* x, const T* logits, const Tile& tile) {
    T* direct = in_place<T>(job_, grad_, tile);
    T* out = direct != nullptr ? direct : third_;
#pragma GCC ivdep
    for (int64_t i = 0; i < tile.cols; ++i) out[i] = grad * row.less_expected(x[i], logits[i]);
    if (job_.of_indices) {
      int64_t at = int64_t(element(x_, tile.row, 0)) - tile.col;
      if (at >= 0 && at < tile.cols) out[at] = grad * row.less_expected(T(1), logits[at]);
    }
    if (direct == nullptr) write_tile<T>(job_, grad_, tile, out);
  }
};

template <void (RowWalker<float>::*f32)(int64_t), void (RowWalker<double>::*f64)(int64_t)>
void each(const ValuedRowJob& job, int64_t first, int64_t last) {
  auto walk = [&](auto&& walker, auto step) {
    for (int64_t i = first; i < last; ++i) (walker.*step)(i);
  };
  if (job.f64) walk(RowWalker<double>(job), f64);
  else walk(RowWalker<float>(job), f32);
}

void walk_whole(const ValuedRowJob& job, int64_t first, int64_t last) {
  if (!job.of_indices || job.cols > RowsAbreast<float>::kMostClasses)
    return each<&RowWalker<float>::whole, &RowWalker<double>::whole>(job, first, last);
  if (job.f64) RowsAbreast<double>(job).walk(first, last);
  else RowsAbreast<float>(job).walk(first, last);
}

}  // namespace

#define FASTVAE_STEP(name) each<&RowWalker<float>::name, &RowWalker<double>::name>
extern const RowSteps row_steps;
const RowSteps row_steps = {FASTVAE_STEP(survey), FASTVAE_STEP(settle), FASTVAE_STEP(finish), FASTVAE_STEP(value),
                            walk_whole};

}  // namespace fastvae::FASTVAE_ISA
