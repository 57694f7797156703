// How rows are walked. A tile of at most kTile elements (several short rows, or part of a long one) is read into
// buffers in the arithmetic type, the formula runs over the buffers, and results are written back or summed by row.
// An operand that already lies in memory as the buffer would hold it is used in place. No formula is known here.
#pragma once

#include "loops.h"
#include "shared.h"
#include "stream.h"
#include "tiles.h"

namespace fastvae::FASTVAE_ISA {

// Partial sums meet here, in an order that the shape alone decides.
template <class T>
void sum_chunks(const CutJob& job) {
  int64_t parts = job.rows_per_sum * job.chunks;
  for (int k = 0; k < job.outputs; ++k) {
    if (job.partial[k] == nullptr) continue;
    for (int64_t i = 0; i < job.sums; ++i) store_sum<T>(job, job.output[k], i, sum(job.partial[k] + i * parts, parts));
  }
}

// Everything one thread holds while it works through its tasks.
template <class T>
class Walker {
 public:
  // `raw_inputs` names, by bits, the operands that the loop takes as they lie in memory.
  Walker(const CutJob& job, Loop formula, unsigned raw_inputs)
      : job_(job), formula_(formula), raw_inputs_(raw_inputs) {}

  void run(int64_t task) {
    int64_t group = task / job_.chunks, chunk = task % job_.chunks;
    int64_t rows = job_.rows / job_.leads, row = group * job_.rows_per_task;
    int64_t last_row = minimum(row + job_.rows_per_task, rows);
    copy_ = group * job_.copies_of_group + chunk * job_.copies_of_chunk;
    for (int64_t lead = 0; lead < job_.leads; ++lead) run_rows(lead * rows + row, lead * rows + last_row, chunk);
  }

 private:
  const CutJob& job_;
  Loop formula_;
  unsigned raw_inputs_;
  alignas(64) T in_[kMaxOperands][kTile];
  alignas(64) T out_[kMaxOutputs][kTile + kSumPadding];
  alignas(64) T weight_[kTile];
  alignas(64) T grad_[kTile];
  alignas(64) T lost_[2][kTile];  // by the sums over the samples
  alignas(64) float noise_[noise_capacity(kTile)];
  Reader<T> reader_[kMaxOperands], weight_reader_;
  const T* results_[kMaxOutputs];
  int64_t copy_ = 0;  // of what is shared, where this task adds

  static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

  void run_rows(int64_t row, int64_t last_row, int64_t chunk) {
    int64_t col = chunk * job_.cols_per_task, last_col = minimum(col + job_.cols_per_task, job_.cols);
    if (last_col - col <= kShortRow && job_.chunks == 1) {
      int64_t step = job_.cols > 0 ? kTile / job_.cols : kTile;
      for (; row < last_row; row += step) short_rows({row, minimum(step, last_row - row), 0, job_.cols});
    } else {
      for (; row < last_row; ++row) long_row(row, col, last_col, chunk);
    }
  }

  // Rows of one sum are summed as one.
  void short_rows(const Tile& tile) {
    compute(tile);
    for (int k = 0; k < job_.outputs; ++k) {
      if (!is_summed(job_.output[k])) continue;
      int64_t left = job_.rows_per_sum - tile.row % job_.rows_per_sum;  // of the sum that the tile begins in
      for (int64_t r = 0, rows; r < tile.rows; r += rows, left = job_.rows_per_sum) {
        rows = minimum(left, tile.rows - r);
        store_part(k, tile.row + r, 0, sum(results_[k] + r * tile.cols, rows * tile.cols));
      }
    }
  }

  void long_row(int64_t row, int64_t col, int64_t last_col, int64_t chunk) {
    double totals[kMaxOutputs] = {};
    for (; col < last_col; col += kTile) {
      Tile tile{row, 1, col, minimum(kTile, last_col - col)};
      compute(tile);
      for (int k = 0; k < job_.outputs; ++k)
        if (is_summed(job_.output[k])) totals[k] += sum(results_[k], tile.cols);
    }
    for (int k = 0; k < job_.outputs; ++k)
      if (is_summed(job_.output[k])) store_part(k, row, chunk, totals[k]);
  }

  void store_part(int k, int64_t row, int64_t chunk, double total) {
    if (job_.partial[k] == nullptr) store_sum<T>(job_, job_.output[k], row, total);
    else job_.partial[k][row * job_.chunks + chunk] = total;
  }

  void compute(const Tile& tile) {
    const void* in[kMaxOperands + 2];
    void* out[kMaxOutputs];
    for (int k = 0; k < job_.inputs; ++k)
      in[k] = raw_inputs_ >> k & 1 ? at(job_, job_.input[k], tile) : reader_[k].read(job_, job_.input[k], tile, in_[k]);
    if (job_.sampling == Sampling::noise) in[job_.inputs] = sample_noise(tile, 0, in_[job_.inputs]);
    if (job_.sampling == Sampling::gradient) sum_samples(tile, in + job_.inputs);
    for (int k = 0; k < job_.outputs; ++k) {
      out[k] = destination(k, tile);
      results_[k] = static_cast<T*>(out[k]);
    }
    formula_(job_.constants, in, out, tile.size());
    if (job_.weighted) apply_weight(weight_reader_.read(job_, job_.weight, tile, weight_), out, tile.size());
    for (int k = 0; k < job_.outputs; ++k)
      if (out[k] == out_[k]) store(k, tile);
  }

  // Where the formula writes: to memory itself if it can, else to a buffer.
  void* destination(int k, const Tile& tile) {
    const Operand& output = job_.output[k];
    if (output.data == nullptr || output.summed || output.shared) return out_[k];
    T* direct = job_.streaming ? nullptr : in_place<T>(job_, output, tile);
    return direct != nullptr ? direct : out_[k];
  }

  void store(int k, const Tile& tile) {
    const Operand& output = job_.output[k];
    if (output.summed || output.data == nullptr) return;
    if (output.shared) add_tile(job_, output, tile, out_[k], job_.shared[k] + copy_ * job_.shared_size[k]);
    else if (T* to = in_place<T>(job_, output, tile)) stream(out_[k], tile.size(), to);
    else write_tile<T>(job_, output, tile, out_[k]);
  }

  // Where the weight is zero the result is zero, NaN or not.
  void apply_weight(const T* weight, void* const* out, int64_t n) {
    for (int k = 0; k < job_.outputs; ++k) {
      if (job_.output[k].data == nullptr) continue;
      T* y = static_cast<T*>(out[k]);
      for (int64_t i = 0; i < n; ++i) y[i] = weight[i] == T(0) ? T(0) : y[i] * weight[i];
    }
  }

  static Operand sample_of(const Operand& operand, int64_t offset) {
    Operand result = operand;
    if (result.data != nullptr) result.data = static_cast<char*>(result.data) + (offset << log_bytes(operand.type));
    return result;
  }

  const T* sample_noise(const Tile& tile, int64_t k, T* buffer) {
    if (job_.has_eps) {
      Reader<T> fresh;
      return fresh.read(job_, sample_of(job_.eps, k * job_.eps_sample_stride), tile, buffer);
    }
    int64_t first = k * job_.rows * job_.cols + tile.row * job_.cols + tile.col;
    const float* values = noise(*job_.seed, first, tile.size(), noise_);
    if constexpr (sizeof(T) == 4) return values;
    for (int64_t i = 0; i < tile.size(); ++i) buffer[i] = values[i];
    return buffer;
  }

  void start_sums(int64_t n, T* sum, T* sum_eps) {
    for (T* x : {sum, sum_eps, lost_[0], lost_[1]}) fill(x, n, T(0));
  }

  // Sums over the samples of grad_z and grad_z * eps, samples in their order.
  void sum_samples(const Tile& tile, const void** in) {
    T *sum = in_[job_.inputs], *sum_eps = in_[job_.inputs + 1], *eps_buffer = out_[0];
    int64_t n = tile.size();
    in[0] = sum;
    in[1] = sum_eps;
    if (job_.grad_z.data == nullptr) {
      fill(sum, n, T(0));
      fill(sum_eps, n, T(0));
      return;
    }
    for (int64_t k = 0; k < job_.samples; ++k) {
      Reader<T> fresh;
      const T* grad = fresh.read(job_, sample_of(job_.grad_z, k * job_.grad_sample_stride), tile, grad_);
      const T* eps = sample_noise(tile, k, eps_buffer);
      if (job_.samples == 1) {
        in[0] = grad;
        for (int64_t i = 0; i < n; ++i) sum_eps[i] = grad[i] * eps[i];
      } else {
        if (k == 0) start_sums(n, sum, sum_eps);
        for (int64_t i = 0; i < n; ++i) {
          add_compensated(grad[i], sum[i], lost_[0][i]);
          add_compensated(grad[i] * eps[i], sum_eps[i], lost_[1][i]);
        }
      }
    }
  }
};

template <class T>
void walk(const CutJob& job, Loop formula, unsigned raw_inputs, int64_t first_task, int64_t last_task) {
  Walker<T> walker(job, formula, raw_inputs);
  for (int64_t task = first_task; task < last_task; ++task) walker.run(task);
  if (job.streaming) finish_streams();
}

}  // namespace fastvae::FASTVAE_ISA
