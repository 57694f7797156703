// How the CPU works on rows that a formula sees whole. The same for every instruction set.
#pragma once

#include "../host/row_job.h"
#include "cut_job.h"

namespace fastvae {

static_assert(kPartElements % kTile == 0);

struct ValuedRowJob : RowJob {
  double* values = nullptr;  // [row]

  using RowJob::RowJob;
};

// What is done to rows, one after the other: `survey` and `finish` to parts, the others to rows. `whole` is all of it.
struct RowSteps {
  using Step = void (*)(const ValuedRowJob&, int64_t first, int64_t last);
  Step survey, settle, finish, value, whole;
};

}  // namespace fastvae
