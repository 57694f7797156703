// A job of rows that a formula sees whole. Plain data, the same for every device.
#pragma once

#include "../math/categorical.h"
#include "job.h"

namespace fastvae {

constexpr int64_t kPartElements = 16384;  // of a row: what is added up apart from the others

struct RowJob : Job {
  bool of_indices = false;      // x is a class, and not a count for each
  int64_t parts_per_row = 1;    // by the length of a row alone, as the order of its sums must be
  RowSums* surveyed = nullptr;  // [row, part]; once a row is settled its first are the whole row's
  RowTerms* terms = nullptr;    // [row, part]

  explicit RowJob(const Job& job) : Job(job) {
    of_indices = job.formula == Formula::categorical_log_prob;
    parts_per_row = job.cols > kPartElements ? (job.cols + kPartElements - 1) / kPartElements : 1;
  }

  FASTVAE_FN const Operand& x() const { return input[inputs - 2]; }
  FASTVAE_FN const Operand& logits() const { return input[inputs - 1]; }
  FASTVAE_FN bool gives_values() const { return direction != Direction::gradient; }
  FASTVAE_FN bool gives_gradients() const {
    return direction != Direction::value && output[outputs - 1].data != nullptr;
  }
  FASTVAE_FN bool has_terms() const { return gives_values() && constants.normalized != 0; }
  FASTVAE_FN int64_t first_col(int64_t part) const { return part % parts_per_row * kPartElements; }
  FASTVAE_FN int64_t last_col(int64_t part) const {
    int64_t last = first_col(part) + kPartElements;
    return last < cols ? last : cols;
  }
};

}  // namespace fastvae
