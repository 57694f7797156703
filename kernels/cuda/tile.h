// Which elements a thread takes. A row is a line of positions, its elements behind a few empty ones, so that a group
// of positions is a group of the noise stream, and of memory where the operand is contiguous.
#pragma once

#include "compiler.h"
#include "task.h"

namespace fastvae::FASTVAE_ISA {

// What a thread takes at a time, and the type it computes in. 16 bytes of float are a quad, of a half type an octet.
struct Quads {
  using T = float;
  static constexpr int width = 4;
};
struct Octets {
  using T = float;
  static constexpr int width = 8;
};
struct Singles {
  using T = double;
  static constexpr int width = 1;
};

// Divisions stand in functions of their own: they are long, and rarely come to be needed.
FASTVAE_FN uint64_t divide(uint64_t n, uint64_t by, uint64_t& rest) {
  if ((n | by) >> 32 == 0) {  // a division of 64 bits takes four times as long
    rest = static_cast<uint32_t>(n) % static_cast<uint32_t>(by);
    return static_cast<uint32_t>(n) / static_cast<uint32_t>(by);
  }
  rest = n % by;
  return n / by;
}

FASTVAE_CALL int64_t quotient(int64_t n, int64_t by) {
  uint64_t rest;
  return static_cast<int64_t>(divide(n, by, rest));
}

// A thread's share of a tile.
struct Share {
  int64_t row, chunk;
  int64_t first_col;  // column of position 0, before the row's first where the row does not begin a group
  int lane;           // among the threads of the row
  int first, step;    // positions of the first unit, and between units
  int begin, end;     // positions that are the row's
};

struct Unit {
  int64_t col;     // of its first element
  unsigned valid;  // by bits, the elements that are the row's
};

template <class A>
FASTVAE_FN Share share_of(const Task& task, int64_t tile, int thread) {
  Share share;
  // Chunks of one row each, or rows of one chunk each.
  share.row = task.chunks > 1 ? quotient(tile, task.chunks) : (tile * kThreads + thread) >> task.log_lanes;
  share.chunk = task.chunks > 1 ? tile - share.row * task.chunks : 0;
  share.lane = thread & ((1 << task.log_lanes) - 1);
  int lead = static_cast<int>((share.row * task.cols) & (A::width - 1));
  share.first_col = share.chunk * task.span - lead;
  share.first = share.lane * A::width;
  share.step = A::width << task.log_lanes;
  share.begin = share.chunk == 0 ? lead : 0;
  int64_t rest = share.row < task.rows ? task.cols - share.first_col : 0;
  share.end = static_cast<int>(rest < task.span ? rest : task.span);
  return share;
}

// `position` is before the end.
template <class A>
FASTVAE_FN Unit unit_at(const Share& share, int position) {
  constexpr unsigned all = (1u << A::width) - 1;
  int before = share.begin - position, behind = position + A::width - share.end;
  unsigned valid = before > 0 ? all << before : all;
  if (behind > 0) valid &= all >> behind;
  return {share.first_col + position, valid & all};
}

FASTVAE_FN bool is_valid(const Unit& unit, int element) { return (unit.valid >> element) & 1; }

// Offset of element `index`, counted in row-major order over dimensions first .. last.
FASTVAE_CALL int64_t offset_of(const Task& task, const Operand& operand, int first, int last, int64_t index) {
  int64_t offset = 0;
  for (int d = last - 1; d >= first; --d) {
    uint64_t rest;
    index = static_cast<int64_t>(divide(index, task.sizes[d], rest));
    offset += static_cast<int64_t>(rest) * operand.strides[d];
  }
  return offset;
}

FASTVAE_FN int64_t row_offset(const Task& task, const Operand& operand, int64_t row) {
  if (task.batch_ndim == 1) return row * operand.strides[0];
  return task.batch_ndim == 0 ? 0 : offset_of(task, operand, 0, task.batch_ndim, row);
}

// How many elements from `col` on lie one behind the other.
FASTVAE_CALL int64_t run_from(const Task& task, const Operand& operand, int64_t col) {
  int inner = task.ndim - 1;
  if (operand.strides[inner] != 1) return 0;
  uint64_t inside;
  divide(col, task.sizes[inner], inside);
  return task.sizes[inner] - static_cast<int64_t>(inside);
}

FASTVAE_FN int64_t col_offset(const Task& task, const Operand& operand, int64_t col) {
  if (operand.event_contiguous) return col;
  return offset_of(task, operand, task.batch_ndim, task.ndim, col);
}

}  // namespace fastvae::FASTVAE_ISA
