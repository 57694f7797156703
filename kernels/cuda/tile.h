// Which elements a thread takes. A row is a line of positions, its elements behind a few empty ones, so that a unit of
// positions is whole counters of the noise stream, and aligned memory where the operand is contiguous.
#pragma once

#include "compiler.h"
#include "cut_job.h"

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

// A thread's stretch of a tile.
struct Stretch {
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
FASTVAE_FN Stretch stretch_of(const CutJob& job, int64_t tile, int thread) {
  Stretch stretch;
  // Chunks of one row each, or rows of one chunk each.
  stretch.row = job.chunks > 1 ? quotient(tile, job.chunks) : (tile * kThreads + thread) >> job.log_lanes;
  stretch.chunk = job.chunks > 1 ? tile - stretch.row * job.chunks : 0;
  stretch.outer = 0;
  stretch.inner = stretch.row;
  if (!kScattered<A> && job.sizes[0] != 1) {
    stretch.outer = quotient(stretch.row, job.sizes[1]);
    stretch.inner = stretch.row - stretch.outer * job.sizes[1];
  }
  stretch.lane = thread & ((1 << job.log_lanes) - 1);
  int lead = static_cast<int>((stretch.row * job.cols) & (A::width - 1));
  stretch.first_col = stretch.chunk * job.span - lead;
  stretch.first = stretch.lane * A::width;
  stretch.step = A::width << job.log_lanes;
  stretch.begin = stretch.chunk == 0 ? lead : 0;
  int64_t rest = stretch.row < job.rows ? job.cols - stretch.first_col : 0;
  stretch.end = static_cast<int>(rest < job.span ? rest : job.span);
  return stretch;
}

// `position` is before the end.
template <class A>
FASTVAE_FN Unit unit_at(const Stretch& stretch, int position) {
  constexpr unsigned all = (1u << A::width) - 1;
  int before = stretch.begin - position, behind = position + A::width - stretch.end;
  unsigned valid = before > 0 ? all << before : all;
  if (behind > 0) valid &= all >> behind;
  return {stretch.first_col + position, valid & all};
}

FASTVAE_FN bool is_valid(const Unit& unit, int element) { return (unit.valid >> element) & 1; }

// Offset of element `index`, counted in row-major order over dimensions first .. last.
FASTVAE_CALL int64_t offset_of(const CutJob& job, const Operand& operand, int first, int last, int64_t index) {
  int64_t offset = 0;
  for (int d = last - 1; d >= first; --d) {
    int64_t above = quotient(index, job.sizes[d]);
    offset += (index - above * job.sizes[d]) * operand.strides[d];
    index = above;
  }
  return offset;
}

}  // namespace fastvae::FASTVAE_ISA
