// A mixture's likelihood on the CPU: operands, shape, how it is cut. Plain data, the same for every instruction set.
#pragma once

#include "../host/job.h"

namespace fastvae {

// A tensor over [*samples, batch, *pixels], and over components and channels besides.
struct MixtureOperand {
  void* data = nullptr;  // null: a weight that nobody gave, or a gradient that nobody wants
  Type type = Type::f32;
  int ndim = 0;  // of samples, batch and pixels; neighbours that are stepped through as one are merged
  int64_t sizes[kMaxDims] = {}, strides[kMaxDims] = {};
  int64_t component = 0, channel = 0;  // strides
};

struct MixtureJob {
  Direction direction = Direction::value;
  bool f64 = false;
  Constants<double> constants;
  int64_t samples = 1, batch = 1, pixels = 1, components = 1, channels = 1;

  MixtureOperand x, logits, mean, log_scale, weight, grad;  // grad: of each log_prob
  MixtureOperand grad_x, grad_logits, grad_mean, grad_log_scale;

  // A tile is some rows of one sample, or a part of one row.
  int64_t tile_rows = 1, tile_pixels = 1, row_tiles = 0, parts = 0;  // parts: of a row
  double* values = nullptr;                                          // [sample, row, part]

  // x's gradient is summed over the samples: a task then is a tile of each.
  bool sums_samples() const { return grad_x.data != nullptr; }
  int64_t tiles() const { return row_tiles * parts; }
  int64_t tasks() const { return sums_samples() ? tiles() : tiles() * samples; }
};

// Cuts the job, and works through it; `out` is [sample, row] of a value, one number in one pass, null of a gradient.
void compute_mixture(MixtureJob& job, void* out);

}  // namespace fastvae
