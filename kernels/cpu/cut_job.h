// A job cut into tasks for threads. Plain data, the same for every instruction set.
#pragma once

#include "../host/job.h"

namespace fastvae {

constexpr int64_t kTile = 1024;           // elements, at most: a few operands' buffers stay in the first-level cache
constexpr int64_t kShortRow = kTile / 2;  // shorter rows share a tile

struct CutJob : Job {
  bool streaming = false;  // outputs are larger than the caches

  // The work as a list of tasks: `tasks` = row groups times column chunks. It depends on the shape alone, never on the
  // number of threads, and so do the partial sums and their order.
  int64_t rows_per_task = 1, cols_per_task = 1, chunks = 1, tasks = 0;
  double* partial = nullptr;  // [summed output, row, chunk] where chunks > 1
};

struct Backend {
  const char* name;
  void (*run)(const CutJob&, int64_t first_task, int64_t last_task);
  void (*sum_chunks)(const CutJob&);
  void (*philox)(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count);
};

}  // namespace fastvae
