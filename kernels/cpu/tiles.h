// A tile: several short rows, or part of a long one. How its elements are read and written, whatever their strides.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "convert.h"

namespace fastvae::FASTVAE_ISA {

struct Tile {
  int64_t row, rows, col, cols;
  int64_t size() const { return rows * cols; }
};

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

// A contiguous operand's elements from a tile on.
inline void* at(const Job& job, const Operand& operand, const Tile& tile) {
  return static_cast<char*>(operand.data) + ((tile.row * job.cols + tile.col) << log_bytes(operand.type));
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

// One input of a tile. What the buffer holds is remembered: values shared by a row, by all, or by all rows are read
// once.
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
    bool remembered = operand.row_constant && tile.cols == job.cols;
    if (remembered && rows_held_ >= tile.rows) return buffer;
    rows_held_ = remembered ? tile.rows : 0;
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
  int64_t held_ = kNothing, rows_held_ = 0;

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

}  // namespace fastvae::FASTVAE_ISA
