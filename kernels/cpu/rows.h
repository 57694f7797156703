// How rows are walked. A tile of at most kTile elements (several short rows, or part of a long one) is read into
// buffers in the arithmetic type, the formula runs over the buffers, and results are written back or summed by row.
// An operand that already lies in memory as the buffer would hold it is used in place. No formula is known here.
#pragma once

#include "convert.h"
#include "stream.h"
#include "table.h"

namespace fastvae::FASTVAE_ISA {

constexpr int64_t kTile = 1024;
constexpr int kSumTail = 16, kSumLanes = 4 * kSumTail;

struct Tile {
  int64_t row, rows, col, cols;
  int64_t size() const { return rows * cols; }
};

template <int n, class T>
FASTVAE_FN T sum_lanes(const T* lanes) {
  if constexpr (n == 1) {
    return lanes[0];
  } else {
    T half[n / 2];
    for (int j = 0; j < n / 2; ++j) half[j] = lanes[j] + lanes[j + n / 2];
    return sum_lanes<n / 2>(half);
  }
}

// Sum in an order that depends on n alone: lanes first, then pairs of lanes. Reads up to kSumTail - 1 elements past the
// end, which buffers have room for.
template <class T>
inline T sum(const T* x, int64_t n) {
  T lanes[kSumTail] = {};
  int64_t i = 0;
  if (n >= kSumLanes) {
    T wide[kSumLanes] = {};
    for (; i + kSumLanes <= n; i += kSumLanes)
      for (int j = 0; j < kSumLanes; ++j) wide[j] += x[i + j];
    for (int j = 0; j < kSumTail; ++j)
      lanes[j] = (wide[j] + wide[j + kSumTail]) + (wide[j + 2 * kSumTail] + wide[j + 3 * kSumTail]);
  }
  for (; i + kSumTail <= n; i += kSumTail)
    for (int j = 0; j < kSumTail; ++j) lanes[j] += x[i + j];
  int rest = int(n - i);
  for (int j = 0; j < kSumTail; ++j) lanes[j] += j < rest ? x[i + j] : T(0);
  return sum_lanes<kSumTail>(lanes);
}

// Offset of element `index`, counted in row-major order over dimensions first .. last.
inline int64_t offset_of(const Job& job, const Operand& operand, int first, int last, int64_t index) {
  int64_t offset = 0;
  for (int d = last - 1; d >= first; --d) {
    offset += index % job.sizes[d] * operand.strides[d];
    index /= job.sizes[d];
  }
  return offset;
}

// Calls run(position in the row segment, memory offset, stride, length) for each stretch of equal stride in a row.
template <class Run>
FASTVAE_FN void for_runs(const Job& job, const Operand& operand, int64_t row, int64_t col, int64_t cols, Run run) {
  int64_t base = offset_of(job, operand, 0, job.batch_ndim, row);
  if (operand.event_contiguous) return run(0, base + col, 1, cols);
  int inner = job.ndim - 1;
  if (inner == job.batch_ndim) return run(0, base + col * operand.strides[inner], operand.strides[inner], cols);
  int64_t length = job.sizes[inner], stride = operand.strides[inner];
  for (int64_t at = 0; at < cols;) {
    int64_t inside = (col + at) % length;
    int64_t n = length - inside < cols - at ? length - inside : cols - at;
    int64_t outer = offset_of(job, operand, job.batch_ndim, inner, (col + at) / length);
    run(at, base + outer + inside * stride, stride, n);
    at += n;
  }
}

constexpr int64_t kBytes[] = {4, 8, 2, 2, 1, 1};  // by Type

// A contiguous operand's elements from a tile on.
inline void* at(const Job& job, const Operand& operand, const Tile& tile) {
  return static_cast<char*>(operand.data) + kBytes[int(operand.type)] * (tile.row * job.cols + tile.col);
}

template <class T>
constexpr Type type_of() {
  return sizeof(T) == 4 ? Type::f32 : Type::f64;
}

// The elements of a tile where they are, if they lie there one behind the other in the arithmetic type.
template <class T>
T* in_place(const Job& job, const Operand& operand, const Tile& tile) {
  if (operand.type != type_of<T>() || operand.data == nullptr) return nullptr;
  T* data = static_cast<T*>(operand.data);
  if (operand.contiguous) return data + tile.row * job.cols + tile.col;
  if (tile.rows > 1 || !operand.event_contiguous) return nullptr;
  return data + offset_of(job, operand, 0, job.batch_ndim, tile.row) + tile.col;
}

// A copy past the caches: what is larger than they are would be read into them only to be written over.
template <class T>
void stream(const T* in, int64_t n, T* out) {
  int64_t i = 0;
#if defined(__AVX512F__)
  if (reinterpret_cast<uintptr_t>(out) % 64 == 0)
    for (constexpr int64_t step = 64 / sizeof(T); i + step <= n; i += step)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i), _mm512_loadu_si512(in + i));
#elif defined(__AVX__)
  if (reinterpret_cast<uintptr_t>(out) % 32 == 0)
    for (constexpr int64_t step = 32 / sizeof(T); i + step <= n; i += step)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(out + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i)));
#endif
  for (; i < n; ++i) out[i] = in[i];
}

inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class T>
void fill(T* out, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

// One input of a tile. What the buffer holds is remembered: a value shared by a row or by all is read once.
template <class T>
class Reader {
 public:
  const T* read(const Job& job, const Operand& operand, const Tile& tile, T* buffer) {
    if (const T* direct = in_place<T>(job, operand, tile)) return direct;
    if (operand.data == nullptr || operand.constant) {
      if (held_ != kEverything) fill(buffer, kTile, value(operand, 0));
      held_ = kEverything;
      return buffer;
    }
    if (operand.event_constant && tile.rows == 1) {
      if (held_ != tile.row) fill(buffer, kTile, value(operand, offset_of(job, operand, 0, job.batch_ndim, tile.row)));
      held_ = tile.row;
      return buffer;
    }
    if (operand.contiguous) {
      FASTVAE_ISA::read<T>(operand.type, operand.data, tile.row * job.cols + tile.col, 1, tile.size(), buffer);
      return buffer;
    }
    for (int64_t r = 0; r < tile.rows; ++r) {
      T* out = buffer + r * tile.cols;
      if (operand.event_constant) {
        fill(out, tile.cols, value(operand, offset_of(job, operand, 0, job.batch_ndim, tile.row + r)));
        continue;
      }
      for_runs(job, operand, tile.row + r, tile.col, tile.cols,
               [&](int64_t at, int64_t offset, int64_t stride, int64_t n) {
                 FASTVAE_ISA::read<T>(operand.type, operand.data, offset, stride, n, out + at);
               });
    }
    return buffer;
  }

 private:
  static constexpr int64_t kNothing = -1, kEverything = -2;
  int64_t held_ = kNothing;

  static T value(const Operand& operand, int64_t offset) {
    T result = static_cast<T>(operand.fill);
    if (operand.data != nullptr) FASTVAE_ISA::read<T>(operand.type, operand.data, offset, 1, 1, &result);
    return result;
  }
};

template <class T>
void write_tile(const Job& job, const Operand& operand, const Tile& tile, const T* buffer) {
  if (operand.contiguous)
    return write<T>(buffer, tile.size(), operand.type, operand.data, tile.row * job.cols + tile.col, 1);
  for (int64_t r = 0; r < tile.rows; ++r)
    for_runs(job, operand, tile.row + r, tile.col, tile.cols,
             [&](int64_t at, int64_t offset, int64_t stride, int64_t n) {
               write<T>(buffer + r * tile.cols + at, n, operand.type, operand.data, offset, stride);
             });
}

// Everything one thread holds while it works through its tasks.
template <class T>
class Walker {
 public:
  // `raw_inputs` names, by bits, the operands that the loop takes as they lie in memory.
  Walker(const Job& job, Loop formula, unsigned raw_inputs) : job_(job), formula_(formula), raw_inputs_(raw_inputs) {}

  void run(int64_t task) {
    int64_t group = task / job_.chunks, chunk = task % job_.chunks;
    int64_t row = group * job_.rows_per_task, col = chunk * job_.cols_per_task;
    int64_t last_row = minimum(row + job_.rows_per_task, job_.rows);
    int64_t last_col = minimum(col + job_.cols_per_task, job_.cols);
    if (last_col - col <= kTile / 2 && job_.chunks == 1) {
      int64_t step = job_.cols > 0 ? kTile / job_.cols : last_row - row;
      for (; row < last_row; row += step) short_rows({row, minimum(step, last_row - row), 0, job_.cols});
    } else {
      for (; row < last_row; ++row) long_row(row, col, last_col, chunk);
    }
  }

 private:
  const Job& job_;
  Loop formula_;
  unsigned raw_inputs_;
  alignas(64) T in_[kMaxOperands][kTile];
  alignas(64) T out_[kMaxOperands][kTile + kSumTail];
  alignas(64) T weight_[kTile];
  alignas(64) T grad_[kTile];
  alignas(64) float noise_[noise_capacity(kTile)];
  Reader<T> reader_[kMaxOperands], weight_reader_;
  const T* results_[kMaxOperands];

  static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

  void short_rows(const Tile& tile) {
    compute(tile);
    for (int k = 0; k < job_.outputs; ++k)
      for (int64_t r = 0; is_summed(k) && r < tile.rows; ++r)
        store_sum(k, tile.row + r, sum(results_[k] + r * tile.cols, tile.cols));
  }

  void long_row(int64_t row, int64_t col, int64_t last_col, int64_t chunk) {
    double totals[kMaxOperands] = {};
    for (; col < last_col; col += kTile) {
      Tile tile{row, 1, col, minimum(kTile, last_col - col)};
      compute(tile);
      for (int k = 0; k < job_.outputs; ++k)
        if (is_summed(k)) totals[k] += sum(results_[k], tile.cols);
    }
    for (int k = 0; k < job_.outputs; ++k) {
      if (!is_summed(k)) continue;
      if (job_.chunks == 1) store_sum(k, row, totals[k]);
      else job_.partial[(k * job_.rows + row) * job_.chunks + chunk] = totals[k];
    }
  }

  bool is_summed(int k) const { return job_.output[k].summed && job_.output[k].data != nullptr; }

  void store_sum(int k, int64_t row, double total) {
    T value = static_cast<T>(total * job_.sum_scale);
    write<T>(&value, 1, job_.output[k].type, job_.output[k].data, row, 1);
  }

  void compute(const Tile& tile) {
    const void* in[kMaxOperands + 2];
    void* out[kMaxOperands];
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
    const float* values = noise(job_.seed, first, tile.size(), noise_);
    if constexpr (sizeof(T) == 4) return values;
    for (int64_t i = 0; i < tile.size(); ++i) buffer[i] = values[i];
    return buffer;
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
      } else if (k == 0) {
        for (int64_t i = 0; i < n; ++i) sum[i] = grad[i], sum_eps[i] = grad[i] * eps[i];
      } else {
        for (int64_t i = 0; i < n; ++i) sum[i] += grad[i], sum_eps[i] = fma(grad[i], eps[i], sum_eps[i]);
      }
    }
  }
};

template <class T>
void walk(const Job& job, Loop formula, unsigned raw_inputs, int64_t first_task, int64_t last_task) {
  Walker<T> walker(job, formula, raw_inputs);
  for (int64_t task = first_task; task < last_task; ++task) walker.run(task);
  if (job.streaming) finish_streams();
}

}  // namespace fastvae::FASTVAE_ISA
