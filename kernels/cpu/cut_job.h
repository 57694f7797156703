// A job cut into tasks for threads. Plain data, the same for every instruction set.
#pragma once

#include "../host/job.h"

namespace fastvae {

constexpr int64_t kTile = 1024;           // elements, at most: a few operands' buffers stay in the first-level cache
constexpr int64_t kShortRow = kTile / 2;  // shorter rows share a tile
constexpr int64_t kTaskElements = 8192;   // of short rows; also what is worth waking a thread for

struct CutJob : Job {
  bool streaming = false;  // outputs are larger than the caches

  // The work as a list of tasks: `tasks` = row groups times column chunks. It depends on the shape alone, never on the
  // number of threads, and so do the partial sums and their order.
  int64_t leads = 1;  // a task's rows are there so often, one time behind the other: what they share is theirs alone
  int64_t rows_per_task = 1, cols_per_task = 1, chunks = 1, tasks = 0;
  double* partial[kMaxOutputs] = {};  // [row, chunk] of what is summed in more than one part

  // What is shared is added up in as many copies as there are tasks that share it.
  int64_t copies = 1, copies_of_group = 0, copies_of_chunk = 0;  // in all, and from one group or chunk to the next
  int64_t shared_size[kMaxOutputs] = {};
  double* shared[kMaxOutputs] = {};  // [copy, element]
};

void cut(CutJob& job);

struct RowSteps;    // see row_job.h
struct MixtureJob;  // see mixture_job.h

struct Backend {
  const char* name;
  void (*run)(const CutJob&, int64_t first_task, int64_t last_task);
  void (*sum_chunks)(const CutJob&);
  void (*sum_copies)(const CutJob&, int output, int64_t first, int64_t last);
  void (*philox)(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count);
  void (*normals)(uint64_t seed, int64_t first, int64_t last, float* out);  // elements; first is a multiple of 4
  const RowSteps& rows;
  void (*walk_mixture)(const MixtureJob&, int64_t first_task, int64_t last_task);
};

}  // namespace fastvae
