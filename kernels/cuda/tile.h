// Which elements a thread takes. A row is a line of positions, its elements behind a few empty ones where units are
// general, so that a unit of positions is whole counters of the noise stream, and aligned memory where the operand is
// contiguous.
#pragma once

#include <type_traits>

#include "compiler.h"
#include "cut_job.h"

namespace fastvae::FASTVAE_ISA {

// The unit that a thread takes at a time, as elements and as words of memory at most, and the type it computes in.
struct Words {
  using T = float;
  static constexpr int width = 8, words = 8;
};
struct Halves {
  using T = float;
  static constexpr int width = 8, words = 4;
};
// The same where the constants are usual, which the compiler is told.
struct UsualWords : Words {};
struct UsualHalves : Halves {};
struct Mixed {
  using T = float;
  static constexpr int width = 4, words = 4;
};
struct General {
  using T = float;
  static constexpr int width = 4, words = 4;
};
struct Doubles {
  using T = double;
  static constexpr int width = 1, words = 2;
};

// Whether all is of one type, unweighted, and what is sampled is sampled once, of the stream.
template <class A>
constexpr bool kPlain = std::is_base_of_v<Words, A> || std::is_base_of_v<Halves, A>;
template <class A>
constexpr bool kUsual = std::is_same_v<A, UsualWords> || std::is_same_v<A, UsualHalves>;
// Whether units are whole and aligned.
template <class A>
constexpr bool kDense = kPlain<A> || std::is_same_v<A, Mixed>;

// A thread's stretch of a tile.
struct Stretch {
  int64_t row, chunk;
  int64_t outer, inner;  // the row's place in two batch dimensions
  int64_t first_col;     // column of position 0, before the row's first where the row does not begin a unit
  int lane;              // among the threads of the row
  int first, step;       // positions of the first unit, and between units
  int begin, end;        // positions that are the row's
};

struct Unit {
  int64_t col;     // of its first element, in a dense lot counted from the chunk's first
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
  stretch.row = job.chunks == 1 ? (tile * kThreads + thread) >> job.log_lanes
                : job.rows == 1 ? 0
                                : quotient(tile, job.chunks);
  stretch.chunk = job.chunks > 1 ? tile - stretch.row * job.chunks : 0;
  stretch.outer = job.sizes[0] == 1 ? 0 : quotient(stretch.row, job.sizes[1]);
  stretch.inner = job.sizes[0] == 1 ? stretch.row : stretch.row - stretch.outer * job.sizes[1];
  stretch.lane = thread & ((1 << job.log_lanes) - 1);
  int lead = kDense<A> ? 0 : static_cast<int>((stretch.row * job.cols) & (A::width - 1));
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
  if (kDense<A>) return {position, all};
  int before = stretch.begin - position, behind = position + A::width - stretch.end;
  unsigned valid = before > 0 ? all << before : all;
  if (behind > 0) valid &= all >> behind;
  return {stretch.first_col + position, valid & all};
}

FASTVAE_FN bool is_valid(const Unit& unit, int element) { return (unit.valid >> element) & 1; }

// Where a row begins, counted in elements. Rows are numbered in row-major order over the batch dimensions.
FASTVAE_FN int64_t offset_in_batch(const Job& job, const Operand& operand, int64_t row) {
  int64_t offset = 0;
  for (int d = job.batch_ndim - 1; d >= 0; --d) {
    int64_t above = quotient(row, job.sizes[d]);
    offset += (row - above * job.sizes[d]) * operand.strides[d];
    row = above;
  }
  return offset;
}
FASTVAE_CALL int64_t offset_of_row(const CutJob& job, const Operand& operand, int64_t row) {
  return offset_in_batch(job, operand, row);
}

}  // namespace fastvae::FASTVAE_ISA
