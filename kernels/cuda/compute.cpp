// A job on a GPU: how it is cut into tiles, and the launches.
#include <algorithm>
#include <optional>

#include "../host/plan.h"
#include "backend.h"
#include "device.h"

namespace fastvae {

namespace {

constexpr int64_t kLongRow = 4096;      // a row beyond this is split where the rows are too few to fill the chip,
constexpr int64_t kManyRows = 1024;     // as fewer than this are,
constexpr int64_t kLongestRow = 65536;  // and in any case where one thread's stretch would lose accuracy
constexpr int64_t kLarge = 16 << 20;    // elements from which larger pieces still fill the chip
constexpr int64_t kMostThreads = 1 << 19;
constexpr int64_t kBlocksPerMultiprocessor = 32;

bool sums(const Job& job) {
  return std::any_of(job.output, job.output + job.outputs, [](const Operand& o) { return o.summed && o.data; });
}

// Where nothing is summed a row may be any run of elements: the innermost dimension, so that each operand is a run too.
void choose_rows(Job& job) {
  if (sums(job) || job.ndim < 2 || job.sizes[job.ndim - 1] < 8) return;
  job.batch_ndim = job.ndim - 1;
  job.cols = job.sizes[job.ndim - 1];
  job.rows = 1;
  for (int d = 0; d < job.batch_ndim; ++d) job.rows *= job.sizes[d];
  classify(job);
}

// Whether `holds` for each tensor that is read or written element by element.
template <class Holds>
bool all_elements(const Job& job, Holds holds) {
  auto check = [&](const Operand& o) { return o.data == nullptr || o.summed || o.event_constant || holds(o); };
  return std::all_of(job.input, job.input + job.inputs, check) &&
         std::all_of(job.output, job.output + job.outputs, check) && check(job.weight) && check(job.eps) &&
         check(job.grad_z);
}

bool has_f64(const Job& job) {
  auto is_f64 = [](const Operand& o) { return o.data != nullptr && o.type == Type::f64; };
  return job.f64 || std::any_of(job.input, job.input + job.inputs, is_f64) || is_f64(job.weight) || is_f64(job.eps) ||
         is_f64(job.grad_z);
}

// Neighbours together where every operand has them side by side, and each sample's noise begins with a counter. Octets
// where the elements have two bytes or one, and rows are whole octets or long.
Lot choose_lot(const Job& job) {
  if (job.f64) return Lot::scattered_f64;
  bool runs = all_elements(job, [](const Operand& o) { return o.event_contiguous; });
  bool numbered = job.samples == 1 || job.has_eps || job.rows * job.cols % 8 == 0;
  if (!runs || !numbered || job.batch_ndim > 2 || has_f64(job)) return Lot::scattered;
  bool narrow = all_elements(job, [](const Operand& o) { return o.type != Type::f32; });
  return narrow && (job.cols % 8 == 0 || job.cols >= 256) ? Lot::octets : Lot::quads;
}

int64_t width_of(Lot lot) { return lot == Lot::quads ? 4 : lot == Lot::octets ? 8 : 1; }

// Kernels of units have two batch dimensions, the first of size one where it is not needed.
void pad_batch(Job& job) {
  auto shift = [](int64_t* values, int64_t front) {
    std::copy_backward(values, values + kMaxDims - 1, values + kMaxDims);
    values[0] = front;
  };
  for (; job.batch_ndim < 2; ++job.batch_ndim, ++job.ndim) {
    shift(job.sizes, 1);
    for (Operand& o : job.input) shift(o.strides, 0);
    for (Operand& o : job.output) shift(o.strides, 0);
    for (Operand* o : {&job.weight, &job.eps, &job.grad_z}) shift(o->strides, 0);
  }
}

int64_t chunk_of(const Job& job, int64_t width) {
  int64_t large = job.rows * job.cols >= kLarge ? 4 : 1;
  if (!sums(job) && (job.cols > kLongRow || job.rows < kManyRows)) return kThreads * width * large;
  bool split = job.cols > kLongestRow || (job.cols > kLongRow && job.rows < kManyRows);
  return split ? kLongRow * large : int64_t(1) << 30;
}

CutJob cut(const Job& planned) {
  CutJob job{planned, Constants<float>(planned.constants)};
  choose_rows(job);
  job.lot = choose_lot(job);
  int64_t width = width_of(job.lot);
  if (width > 1) pad_batch(job);
  int64_t lead = job.rows > 1 && job.cols % width != 0 ? width - 1 : 0;  // a row may begin in the midst of a unit
  int64_t positions = std::max<int64_t>(job.cols + lead, 1);
  job.span = int32_t(chunk_of(job, width));
  job.chunks = (positions + job.span - 1) / job.span;
  int64_t lanes = 1;
  while (lanes < kThreads && lanes * width < positions) lanes *= 2, ++job.log_lanes;
  while (job.chunks == 1 && lanes > kWarp && job.rows * lanes > kMostThreads) lanes /= 2, --job.log_lanes;
  int64_t rows_per_tile = kThreads / lanes;
  job.tiles = (job.rows + rows_per_tile - 1) / rows_per_tile * job.chunks;
  return job;
}

}  // namespace

void compute(const Job& planned) {
  using torch::headeronly::ScalarType;
  CutJob job = cut(planned);
  if (job.tiles == 0) return;
  OnDevice device(job.device.index);
  bool two_steps = job.chunks > 1 && sums(job);
  std::optional<Tensor> partial;  // freed while the kernels may still be under way, as torch's allocator allows
  if (two_steps) {
    partial =
        empty({job.outputs * job.rows * job.chunks}, job.f64 ? ScalarType::Double : ScalarType::Float, job.device);
    job.partial = partial->data_ptr();
  }
  kernel_of(job)(job, std::min(job.tiles, device.multiprocessors() * kBlocksPerMultiprocessor), device.stream());
  device.check_launch();
  if (two_steps) {
    sum_chunks_of(job)(job, (job.outputs * job.rows * kWarp + kThreads - 1) / kThreads, device.stream());
    device.check_launch();
  }
}

bool sums_shared() { return false; }

void compute_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, const Device& on) {
  if (count == 0) return;
  OnDevice device(on.index);
  launch_philox(counter, key, words, count, device.stream());
  device.check_launch();
}

void compute_normals(const uint64_t* seed, float* out, int64_t count, const Device& on) {
  if (count == 0) return;
  OnDevice device(on.index);
  launch_normals(seed, out, count, device.stream());
  device.check_launch();
}

}  // namespace fastvae
