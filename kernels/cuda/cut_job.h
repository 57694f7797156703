// A job cut into tiles for blocks of threads. Plain data: host and device compile it, and a launch passes it by value.
#pragma once

#include "../host/job.h"

namespace fastvae {

constexpr int kThreads = 128;  // of a block
constexpr int kWarp = 32;

// What a thread takes at a time: 4 or 8 neighbours, or 1 element wherever it lies, in float or double.
enum class Lot : uint8_t { quads, octets, scattered, scattered_f64, count };

// A tile is what a block takes at a time: as many rows as its threads serve, or one chunk of a long row. It depends on
// the shape alone, and so do the partial sums and their order.
struct CutJob : Job {
  Constants<float> constants_f32;
  Lot lot = Lot::quads;
  int log_lanes = 0;  // of the number of threads that share a row
  int32_t span = 0;   // positions of a chunk
  int64_t chunks = 1, tiles = 0;
  void* partial = nullptr;  // [output, row, chunk] in the arithmetic type, where chunks > 1
};

static_assert(sizeof(CutJob) <= 4096, "what a launch can pass by value");

}  // namespace fastvae
