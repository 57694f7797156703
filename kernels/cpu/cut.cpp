// How a job is cut into tasks of like size.
#include <algorithm>

#include "cut_job.h"

namespace fastvae {

namespace {

constexpr int64_t kChunkElements = 8192;      // columns of a long row that one task takes
constexpr int64_t kStreamElements = 4 << 20;  // results beyond this no cache keeps until they are read
constexpr int64_t kMostCopies = 64;           // of what is shared,
constexpr int64_t kTermsPerSum = 16;          // and terms, at least, for each element of each copy

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

// Whether each index into dimensions first .. last has elements of its own.
bool steps(const Operand& operand, int first, int last) {
  return std::all_of(operand.strides + first, operand.strides + last, [](int64_t stride) { return stride != 0; });
}

int64_t size_of(const Job& job, const Operand& shared) {
  int64_t size = 1;
  for (int d = 0; d < job.ndim; ++d)
    if (shared.strides[d] != 0) size *= job.sizes[d];
  return size;
}

// What is shared, over all outputs.
struct Shared {
  int64_t size = 0;  // of the largest
  int lead_ndim = 0;
  bool own_rows = true, own_cols = true;  // whether other rows, or columns, have other elements of it
};

Shared look_at_shared(CutJob& job) {
  Shared all;
  all.lead_ndim = job.batch_ndim;
  for (int k = 0; k < job.outputs; ++k) {
    const Operand& output = job.output[k];
    if (!is_shared(output)) continue;
    all.size = std::max(all.size, job.shared_size[k] = size_of(job, output));
    all.own_cols = all.own_cols && steps(output, job.batch_ndim, job.ndim);
    int lead = 0;
    while (lead < job.batch_ndim && output.strides[lead] == 0) ++lead;
    all.lead_ndim = std::min(all.lead_ndim, lead);
  }
  if (all.lead_ndim == job.batch_ndim) all.lead_ndim = 0;
  for (int k = 0; k < job.outputs; ++k)
    if (is_shared(job.output[k])) all.own_rows = all.own_rows && steps(job.output[k], all.lead_ndim, job.batch_ndim);
  return all;
}

// Tasks that share elements add them up in a copy each: larger tasks make fewer copies.
void cut_shared(CutJob& job, const Shared& shared, int64_t rows, int64_t rows_per_tile) {
  int64_t cols = std::max<int64_t>(job.cols, 1);
  int64_t most = std::clamp<int64_t>(job.rows * cols / (kTermsPerSum * shared.size), 1, kMostCopies);
  if (!shared.own_cols) {
    job.cols_per_task = std::max(job.cols_per_task, std::min(round_up(divide_up(cols, most), kTile), cols));
    job.chunks = divide_up(cols, job.cols_per_task);
    job.copies *= job.chunks;
    job.copies_of_chunk = 1;
  }
  if (!shared.own_rows) {
    int64_t groups = std::max<int64_t>(most / job.copies, 1);
    job.rows_per_task = std::max(job.rows_per_task, round_up(divide_up(rows, groups), rows_per_tile));
    job.copies_of_group = job.copies;
    job.copies *= std::max<int64_t>(divide_up(rows, job.rows_per_task), 1);
  }
}

}  // namespace

void cut(CutJob& job) {
  Shared shared = look_at_shared(job);
  for (int d = 0; d < shared.lead_ndim; ++d) job.leads *= job.sizes[d];
  int64_t cols = std::max<int64_t>(job.cols, 1), rows = job.leads > 0 ? job.rows / job.leads : 0, rows_per_tile = 1;
  if (cols > kChunkElements) {
    job.cols_per_task = kChunkElements;
    job.chunks = divide_up(cols, kChunkElements);
  } else {
    job.cols_per_task = cols;
    rows_per_tile = cols <= kShortRow ? kTile / cols : 1;
    job.rows_per_task = std::max<int64_t>(kTaskElements / cols / rows_per_tile, 1) * rows_per_tile;
  }
  if (shared.size > 0) cut_shared(job, shared, rows, rows_per_tile);
  int64_t full_outputs = 0;
  for (int k = 0; k < job.outputs; ++k)
    full_outputs += job.output[k].data != nullptr && !job.output[k].summed && !job.output[k].shared;
  job.streaming = full_outputs * job.rows * job.cols > kStreamElements;
  job.tasks = divide_up(rows, job.rows_per_task) * job.chunks;
}

}  // namespace fastvae
