// How rows are walked. A tile of at most kTile elements (several short rows, or part of a long one) is read into
// buffers in the arithmetic type, the formula runs over the buffers, and results are written back or summed by row.
// An operand that already lies in memory as the buffer would hold it is used in place. No formula is known here.
#pragma once

#include <numeric>

#include "loops.h"
#include "stream.h"
#include "tiles.h"

namespace fastvae::FASTVAE_ISA {

constexpr int kRegisterBytes = 8 * kLanes;
constexpr int kSumPadding = kRegisterBytes / 4;  // elements that `sum` may read past the end

// A register's worth of lanes; compilers make nothing of the kind from arrays.
template <class T, int bytes>
struct Register {
  typedef T Type __attribute__((vector_size(bytes)));
};

template <class To, class T>
FASTVAE_FN To load_register(const T* from) {
  To to;
  memcpy(&to, from, sizeof(to));
  return to;
}

template <class T, int bytes>
FASTVAE_FN T sum_lanes(typename Register<T, bytes>::Type lanes) {
  if constexpr (bytes == sizeof(T)) {
    return lanes[0];
  } else {
    T values[bytes / sizeof(T)];
    memcpy(values, &lanes, sizeof(lanes));
    using Half = typename Register<T, bytes / 2>::Type;
    return sum_lanes<T, bytes / 2>(load_register<Half>(values) + load_register<Half>(values + bytes / 2 / sizeof(T)));
  }
}

// Sum in an order that depends on n alone: lanes first, then pairs of lanes.
template <class T>
FASTVAE_FN T sum(const T* x, int64_t n) {
  using Lanes = typename Register<T, kRegisterBytes>::Type;
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr int64_t width = kRegisterBytes / sizeof(T);
  Lanes a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    a += load_register<Lanes>(x + i);
    b += load_register<Lanes>(x + i + width);
    c += load_register<Lanes>(x + i + 2 * width);
    d += load_register<Lanes>(x + i + 3 * width);
  }
  a = (a + b) + (c + d);
  for (; i + width <= n; i += width) a += load_register<Lanes>(x + i);
  if (i < n) {
    typename Register<Index, kRegisterBytes>::Type lane;
    for (int j = 0; j < width; ++j) lane[j] = j;
    Lanes rest = load_register<Lanes>(x + i), nothing = {};
    a += lane < Index(n - i) ? rest : nothing;
  }
  return sum_lanes<T, kRegisterBytes>(a);
}

// Partial sums of long rows meet here, in their order.
template <class T>
void sum_chunks(const CutJob& job) {
  for (int k = 0; k < job.outputs; ++k) {
    if (!is_summed(job.output[k])) continue;
    for (int64_t row = 0; row < job.rows; ++row) {
      const double* chunk = job.partial + (k * job.rows + row) * job.chunks;
      store_sum<T>(job, job.output[k], row, std::accumulate(chunk, chunk + job.chunks, 0.0));
    }
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
    int64_t row = group * job_.rows_per_task, col = chunk * job_.cols_per_task;
    int64_t last_row = minimum(row + job_.rows_per_task, job_.rows);
    int64_t last_col = minimum(col + job_.cols_per_task, job_.cols);
    if (last_col - col <= kShortRow && job_.chunks == 1) {
      int64_t step = job_.cols > 0 ? kTile / job_.cols : kTile;
      for (; row < last_row; row += step) short_rows({row, minimum(step, last_row - row), 0, job_.cols});
    } else {
      for (; row < last_row; ++row) long_row(row, col, last_col, chunk);
    }
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

  static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

  void short_rows(const Tile& tile) {
    compute(tile);
    for (int k = 0; k < job_.outputs; ++k) {
      if (!is_summed(job_.output[k])) continue;
      const T* x = results_[k];
      for (int64_t r = 0; r < tile.rows; ++r)
        store_sum<T>(job_, job_.output[k], tile.row + r, sum(x + r * tile.cols, tile.cols));
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
    for (int k = 0; k < job_.outputs; ++k) {
      if (!is_summed(job_.output[k])) continue;
      if (job_.chunks == 1) store_sum<T>(job_, job_.output[k], row, totals[k]);
      else job_.partial[(k * job_.rows + row) * job_.chunks + chunk] = totals[k];
    }
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
      if (out[k] == out_[k]) store(job_.output[k], tile, out_[k]);
  }

  // Where the formula writes: to memory itself if it can, else to a buffer.
  void* destination(int k, const Tile& tile) {
    const Operand& output = job_.output[k];
    if (output.data == nullptr || output.summed) return out_[k];
    T* direct = job_.streaming ? nullptr : in_place<T>(job_, output, tile);
    return direct != nullptr ? direct : out_[k];
  }

  void store(const Operand& output, const Tile& tile, const T* buffer) {
    if (output.summed || output.data == nullptr) return;
    if (T* to = in_place<T>(job_, output, tile)) stream(buffer, tile.size(), to);
    else write_tile<T>(job_, output, tile, buffer);
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
    if (result.data != nullptr) result.data = static_cast<char*>(result.data) + offset * kBytes[int(operand.type)];
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
