// A job cut into tiles for blocks of threads. Plain data: host and device compile it, and a launch passes it by value.
#pragma once

#include "../host/job.h"
#include "../math/platform.h"

namespace fastvae {

constexpr int kThreads = 128;  // of a block
constexpr int kWarp = 32;
constexpr int kRun = kMaxDims - 1;  // where a cut job has an operand's stride along a row

// How a thread takes its elements; the most special that serves is chosen.
enum class Lot : uint8_t {
  usual_words,  // `words` where the constants are usual, and `halves`
  usual_halves,
  words,    // aligned units of eight elements, all float, unweighted, sampled once at most, by the stream
  halves,   // the same, all bfloat16
  mixed,    // aligned units of four elements, each operand of its own type, weighted or not
  general,  // units of four elements wherever they lie
  columns,  // the same by columns, down the rows: where rows share gradients element by element
  doubles,  // one element, in double
  count
};

// What becomes of an output.
enum class Fate : uint8_t {
  nobody,      // wants it
  stored,      // element by element
  summed,      // over a row
  by_columns,  // summed down the rows
  count
};

// A tile is what a block takes at a time: as many rows as its threads serve, or one chunk of a long row; of columns,
// a group of rows of one chunk. It depends on the shape alone, and so do the terms of sums and their order.
struct CutJob : Job {
  Constants<float> constants_f32;
  Lot lot = Lot::general;
  uint32_t held = 0;                     // by bits, the inputs that have one value a row,
  uint32_t with[int(Fate::count)] = {};  // and the outputs that have a fate
  void* terms[kMaxOutputs] = {};         // of sums, in the arithmetic type; null: a row has one, and is done
  int log_lanes = 0;                     // of the number of threads that share a row
  int32_t span = 0;                      // positions of a chunk
  int64_t chunks = 1, tiles = 0;
  int down = 0;                                      // of columns: the batch dimension that is gone down,
  int64_t rows_down = 1, rows_each = 1, copies = 1;  // its size, what a thread takes of it, the threads that share it,
  int64_t rows_inside = 1;                           // and the rows of the dimensions behind it
  uint32_t taken = ~0u;                              // by bits, elements of a unit: all, known at run time only
};

// Whether a row of an input is one value.
FASTVAE_FN bool is_held(const Operand& operand) { return operand.data == nullptr || operand.event_constant; }
FASTVAE_FN bool is_held(const CutJob& job, int input) { return (job.held >> input) & 1; }
FASTVAE_FN bool has(const CutJob& job, Fate fate, int output) { return (job.with[int(fate)] >> output) & 1; }

// Terms by dimensions, row-major: along those not kept they are added up, all at once or first in `parts`.
struct Sum {
  int ndim = 0;
  int64_t sizes[kMaxDims + 1] = {}, strides[kMaxDims + 1] = {};  // strides of what results, where it is kept
  bool kept[kMaxDims + 1] = {};
  int64_t count = 1, each = 1;  // of what results, and of the terms of each
  int64_t parts = 1;
  double scale = 1;
  const void* terms = nullptr;
  void* out = nullptr;
  int64_t terms_at = 0, out_at = -1;  // in the memory for terms; -1: elsewhere

  void keep(int64_t size, int64_t stride) {
    count *= size;
    if (ndim > 0 && kept[ndim - 1] && strides[ndim - 1] == stride * size) sizes[ndim - 1] *= size;
    else sizes[ndim] = size, kept[ndim++] = true;
    strides[ndim - 1] = stride;
  }
  void add_up(int64_t size) {
    each *= size;
    if (ndim > 0 && !kept[ndim - 1]) sizes[ndim - 1] *= size;
    else sizes[ndim++] = size;
  }
};

struct Sums {
  int number = 0;
  Sum sum[kMaxOutputs];
};

static_assert(sizeof(CutJob) <= 4096, "what a launch can pass by value");

}  // namespace fastvae
