// Which elements a thread takes. A row is a line of positions, its elements behind a few empty ones, so that a unit of
// positions is whole counters of the noise stream, and aligned memory where the operand is contiguous.
#pragma once

#include "compiler.h"
#include "task.h"

namespace fastvae::FASTVAE_ISA {

// The unit that a thread takes at a time, and the type it computes in. 16 bytes are a quad of floats, an octet of
// halves.
struct Quads {
  using T = float;
  static constexpr int width = 4;
};
struct Octets {
  using T = float;
  static constexpr int width = 8;
};
template <class Arithmetic>
struct Singles {
  using T = Arithmetic;
  static constexpr int width = 1;
};

template <class A>
constexpr bool kScattered = A::width == 1;

// A thread's share of a tile.
struct Share {
  int64_t row, chunk;
  int64_t outer, inner;  // the row's place in the two batch dimensions of a job that is not scattered
  int64_t first_col;     // column of position 0, before the row's first where the row does not begin a unit
  int lane;              // among the threads of the row
  int first, step;       // positions of the first unit, and between units
  int begin, end;        // positions that are the row's
};

struct Unit {
  int64_t col;     // of its first element
  unsigned valid;  // by bits, the elements that are the row's
};

FASTVAE_FN int64_t quotient(int64_t n, int64_t by) {
  // A division of 64 bits takes four times as long.
  if (static_cast<uint64_t>(n | by) >> 32 == 0) return static_cast<uint32_t>(n) / static_cast<uint32_t>(by);
  return n / by;
}

template <class A>
FASTVAE_FN Share share_of(const Task& task, int64_t tile, int thread) {
  Share share;
  // Chunks of one row each, or rows of one chunk each.
  share.row = task.chunks > 1 ? quotient(tile, task.chunks) : (tile * kThreads + thread) >> task.log_lanes;
  share.chunk = task.chunks > 1 ? tile - share.row * task.chunks : 0;
  share.outer = 0;
  share.inner = share.row;
  if (!kScattered<A> && task.sizes[0] != 1) {
    share.outer = quotient(share.row, task.sizes[1]);
    share.inner = share.row - share.outer * task.sizes[1];
  }
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
    int64_t above = quotient(index, task.sizes[d]);
    offset += (index - above * task.sizes[d]) * operand.strides[d];
    index = above;
  }
  return offset;
}

}  // namespace fastvae::FASTVAE_ISA
