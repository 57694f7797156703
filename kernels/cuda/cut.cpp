#include "cut.h"

#include <algorithm>
#include <utility>

#include "../host/plan.h"

namespace fastvae {

namespace {

constexpr int64_t kFill = 1 << 17;        // threads that fill a large chip
constexpr int64_t kTiles = 1024;          // blocks that do, of a job that is summed
constexpr int64_t kLongRow = 4096;        // elements; where nothing is summed, a longer row is always split
constexpr int64_t kLongestRow = 65536;    // where a row is summed: one thread's stretch would lose accuracy beyond,
constexpr int64_t kLongestChunk = 16384;  // and in a chunk here
constexpr int64_t kMostUnits = 8;         // that a thread takes of what is not summed
constexpr int64_t kTermsPerSum = 16;      // rows, at least, that a thread goes down
constexpr int64_t kMostCopies = 256;      // of the sums by columns
constexpr int64_t kManyTerms = 4096, kParts = 64;  // of one sum, and how many parts it then has
constexpr int64_t kSetUp = 8;                      // of a row, in eighths of what a unit takes

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

template <class Holds>
bool all_operands(Job& job, Holds holds) {
  bool all = true;
  for_operands(job, [&](const Operand& o) { all = all && (o.data == nullptr || holds(o)); });
  return all;
}

bool any_summed(const Job& job) { return std::any_of(job.output, job.output + job.outputs, is_summed); }

// A row is the innermost dimension: each operand is then a run, or steps evenly.
void make_rows_runs(Job& job) {
  for (; job.ndim - job.batch_ndim > 1; ++job.batch_ndim) {
    int64_t size = job.sizes[job.batch_ndim];
    job.rows *= size;
    job.rows_per_sum *= size;
  }
  job.cols = job.ndim > job.batch_ndim ? job.sizes[job.ndim - 1] : 1;
}

// Rows that lie one behind the other for every operand are one, where they are of one sum.
void lengthen_rows(Job& job) {
  while (job.batch_ndim > 0 && job.ndim > job.batch_ndim && job.rows > 0 && job.cols > 0) {
    int run = job.ndim - 1, outer = run - 1;
    int64_t size = job.sizes[outer];
    bool summed = any_summed(job), of_one_sum = job.rows_per_sum % size == 0;
    auto goes_on = [&](const Operand& o) { return o.strides[outer] == o.strides[run] * job.cols; };
    if ((summed && !of_one_sum) || !all_operands(job, goes_on)) return;
    (of_one_sum ? job.rows_per_sum : job.sums) /= size;
    for_operands(job, [&](Operand& o) { o.strides[outer] = o.strides[run]; });
    job.rows /= size;
    job.sizes[outer] = job.cols *= size;
    --job.ndim, --job.batch_ndim;
  }
}

void choose_fates(Cut& cut) {
  const Job& job = cut.job;
  for (int k = 0; k < job.outputs; ++k) {
    const Operand& o = job.output[k];
    bool has_run = job.ndim > job.batch_ndim;
    cut.fate[k] = o.data == nullptr                         ? Fate::nobody
                  : o.summed                                ? Fate::summed
                  : !o.shared                               ? Fate::stored
                  : has_run && o.strides[job.ndim - 1] != 0 ? Fate::by_columns
                                                            : Fate::summed;
  }
}

bool any(const CutJob& job, Fate fate) { return job.with[int(fate)] != 0; }

// The longest batch dimension along which all that is shared is added up; -1: there is none.
int dimension_to_go_down(const Job& job) {
  int down = -1;
  for (int d = 0; d < job.batch_ndim; ++d) {
    bool shared = true;
    for (int k = 0; k < job.outputs; ++k)
      shared = shared && (!is_shared(job.output[k]) || job.output[k].strides[d] == 0);
    if (shared && (down < 0 || job.sizes[d] > job.sizes[down])) down = d;
  }
  return down;
}

// Batch dimensions are two at least, the first of size one where need be; strides along a row stand at the end.
void settle_dimensions(CutJob& job) {
  bool has_run = job.ndim > job.batch_ndim;
  int missing = std::max(2 - job.batch_ndim, 0);
  auto shift = [&](int64_t* values, int64_t front) {
    std::copy_backward(values, values + job.batch_ndim, values + job.batch_ndim + missing);
    std::fill_n(values, missing, front);
  };
  for_operands(job, [&](Operand& o) {
    int64_t along = has_run ? o.strides[job.ndim - 1] : 0;
    shift(o.strides, 0);
    o.strides[kRun] = along;
  });
  shift(job.sizes, 1);
  job.batch_ndim += missing, job.down += missing;
}

// Whether each operand's rows are whole aligned units of `width`, or one value.
bool is_dense(CutJob& job, int64_t width) {
  auto steps_whole = [&](const Operand& o) {
    return o.strides[0] % width == 0 && o.strides[1] % width == 0 &&
           reinterpret_cast<uintptr_t>(o.data) % std::min<uintptr_t>(width << log_bytes(o.type), 16) == 0;
  };
  auto holds = [&](const Operand& o) {
    return o.event_constant || (o.event_contiguous && log_bytes(o.type) < 3 && steps_whole(o));
  };
  return job.batch_ndim == 2 && job.cols % width == 0 && all_operands(job, holds) &&
         job.eps_sample_stride % width == 0 && job.grad_sample_stride % width == 0;
}

Lot choose_lot(CutJob& job) {
  if (job.f64) return Lot::doubles;
  if (any(job, Fate::by_columns)) return Lot::columns;
  bool sampled_once = job.sampling == Sampling::none || (!job.has_eps && job.samples == 1);
  bool whole = job.sampling != Sampling::gradient || !is_held(job.grad_z);
  auto all_are = [&](Type type) {
    return all_operands(job, [&](const Operand& o) { return o.shared || o.event_constant || o.type == type; });
  };
  bool plain = !job.weighted && sampled_once && whole && is_dense(job, 8);
  bool usual = job.constants.is_usual();
  if (plain && all_are(Type::f32)) return usual ? Lot::usual_words : Lot::words;
  if (plain && all_are(Type::bf16)) return usual ? Lot::usual_halves : Lot::halves;
  return is_dense(job, 4) ? Lot::mixed : Lot::general;
}

int64_t width_of(Lot lot) { return lot == Lot::doubles ? 1 : lot <= Lot::halves ? 8 : 4; }

// Threads for a row of so many units, as a power of two: those that are done soonest where `rows` fill the chip in
// waves. Eight at least read whole sectors.
int choose_lanes(int64_t units, int64_t rows) {
  int best = 0;
  int64_t least = 0;
  for (int log = 0; (1 << log) <= kThreads; ++log) {
    int64_t lanes = 1 << log, waves = std::max(rows * lanes, kFill);
    int64_t cost = (kSetUp + 8 * divide_up(units, lanes)) * waves;
    if (log == 0 || lanes <= 8 || cost < least) best = log, least = cost;
    if (lanes >= units) break;
  }
  return best;
}

// Positions of a chunk; a row that is not split has one.
int64_t choose_span(const CutJob& job, bool summed, int64_t width) {
  int64_t least = kThreads * width, total = job.rows * job.cols;
  if (!summed) {
    bool split = job.cols > kLongRow || job.rows < kTiles;
    return split ? least * std::clamp<int64_t>(total / (width * kFill), 1, kMostUnits) : int64_t(1) << 30;
  }
  bool split = job.cols > kLongestRow || (job.rows < kTiles && job.cols > 2 * least);
  return split ? round_up(std::clamp(total / kTiles, least, kLongestChunk), least) : int64_t(1) << 30;
}

void cut_rows(CutJob& job) {
  int64_t width = width_of(job.lot);
  bool masked = job.lot == Lot::general || job.lot == Lot::doubles;
  int64_t lead = masked && job.rows > 1 && job.cols % width != 0 ? width - 1 : 0;  // a row may begin amid a unit
  int64_t positions = std::max<int64_t>(job.cols + lead, 1);
  job.span = int32_t(choose_span(job, any(job, Fate::summed), width));
  job.chunks = divide_up(positions, job.span);
  job.log_lanes = choose_lanes(divide_up(std::min<int64_t>(positions, job.span), width), job.rows * job.chunks);
  if (job.chunks > 1)
    while ((1 << job.log_lanes) < kThreads) ++job.log_lanes;
  job.tiles = divide_up(job.rows, kThreads >> job.log_lanes) * job.chunks;
}

void cut_columns(CutJob& job) {
  int64_t units = std::max<int64_t>(divide_up(job.cols, 4), 1), outside = 1;
  for (int d = 0; d < job.batch_ndim; ++d)
    (d < job.down ? outside : d > job.down ? job.rows_inside : job.rows_down) *= job.sizes[d];
  int64_t threads = outside * job.rows_inside * units, rows = std::max<int64_t>(job.rows_down, 1);
  job.rows_each = std::max({rows * threads / kFill, std::min(rows, kTermsPerSum), divide_up(rows, kMostCopies)});
  job.copies = divide_up(job.rows_down, job.rows_each);
  int64_t least = 0;
  for (int log = 5; (1 << log) <= kThreads; ++log) {  // threads that no column needs are idle
    int64_t taken = round_up(units, 1 << log);
    if (log == 5 || taken <= least) job.log_lanes = log, least = taken;
  }
  job.chunks = divide_up(units, 1 << job.log_lanes);
  int64_t groups = divide_up(job.copies, kThreads >> job.log_lanes);
  job.tiles = outside * job.rows_inside * groups * job.chunks;
}

// The terms of what `left` wants, as the kernel leaves them.
Sum terms_of(const CutJob& job, const Operand& left, Fate fate) {
  Sum sum;
  auto add = [&](int64_t size, int64_t stride) {
    if (left.summed || stride == 0) sum.add_up(size);
    else sum.keep(size, stride);
  };
  if (left.summed && job.lot != Lot::columns) {
    sum.keep(job.sums, 1);
    sum.add_up(job.rows_per_sum);
  } else {
    for (int d = 0; d < job.batch_ndim; ++d)
      add(job.lot == Lot::columns && d == job.down ? job.copies : job.sizes[d], left.strides[d]);
  }
  if (fate == Fate::summed) sum.add_up(job.chunks);
  else add(job.cols, left.strides[kRun]);
  sum.scale = left.summed ? job.sum_scale : 1;
  sum.out = left.data;
  return sum;
}

// Where terms are very many and results few, the sum of parts, which `sum` then adds up.
Sum take_parts(Sum& sum) {
  Sum in_parts = sum, rest;
  in_parts.parts = kParts;
  for (int d = 0; d < sum.ndim; ++d)
    if (sum.kept[d]) rest.keep(sum.sizes[d], sum.strides[d]);
  rest.add_up(kParts);
  rest.out = sum.out;
  rest.scale = std::exchange(in_parts.scale, 1);
  sum = rest;
  return in_parts;
}

// Output k, which the plan knows as `left`.
void add_sum(Cut& cut, int k, const Operand& left) {
  const CutJob& job = cut.job;
  bool done = left.summed && job.lot != Lot::columns && job.chunks == 1 && job.rows_per_sum == 1;
  if (left.data == nullptr || done || !(left.summed || left.shared)) return;
  auto reserve = [&](int64_t size) { return std::exchange(cut.memory, cut.memory + round_up(size, 4)); };
  Sum sum = terms_of(job, left, cut.fate[k]);
  cut.at[k] = sum.terms_at = reserve(sum.count * sum.each);
  if (sum.each > kManyTerms && sum.count < kParts) {
    Sum& in_parts = cut.in_parts.sum[cut.in_parts.number++] = take_parts(sum);
    in_parts.out_at = sum.terms_at = reserve(sum.count * kParts);
  }
  cut.sums.sum[cut.sums.number++] = sum;
}

// What no lot can sum is stored, term by term.
void store_terms(CutJob& job, Operand& o) {
  int64_t stride = job.cols;
  for (int d = job.batch_ndim - 1; d >= 0; --d) o.strides[d] = stride, stride *= job.sizes[d];
  o.strides[kRun] = 1;
  o.type = job.f64 ? Type::f64 : Type::f32;
  o.event_contiguous = true;
  o.event_constant = o.shared = false;
}

}  // namespace

Cut cut(const Job& planned) {
  Cut cut;
  CutJob& job = cut.job;
  static_cast<Job&>(job) = planned;
  job.constants_f32 = Constants<float>(planned.constants);
  make_rows_runs(job);
  lengthen_rows(job);
  classify(job);
  choose_fates(cut);
  job.down = dimension_to_go_down(job);
  bool columns = job.down >= 0 && !job.f64 && (!any_summed(job) || job.sums == 1);
  settle_dimensions(job);
  Operand left[kMaxOutputs];
  std::copy(job.output, job.output + kMaxOutputs, left);
  for (int k = 0; k < job.outputs && !columns; ++k)
    if (cut.fate[k] == Fate::by_columns) store_terms(job, job.output[k]), cut.fate[k] = Fate::stored;
  for (int k = 0; k < job.outputs; ++k) job.with[int(cut.fate[k])] |= 1u << k;
  for (int k = 0; k < job.inputs; ++k) job.held |= uint32_t(is_held(job.input[k])) << k;
  job.lot = choose_lot(job);
  if (job.lot == Lot::columns) cut_columns(job);
  else cut_rows(job);
  std::fill_n(cut.at, kMaxOutputs, -1);
  for (int k = 0; k < job.outputs; ++k) add_sum(cut, k, left[k]);
  return cut;
}

void give_memory(Cut& cut, void* memory) {
  int64_t size = cut.job.f64 ? 8 : 4;
  auto pointer = [&](int64_t at) { return static_cast<void*>(static_cast<char*>(memory) + at * size); };
  for (int k = 0; k < cut.job.outputs; ++k) {
    if (cut.at[k] < 0) continue;
    void*& to = cut.fate[k] == Fate::stored ? cut.job.output[k].data : cut.job.terms[k];
    to = pointer(cut.at[k]);
  }
  for (Sums* sums : {&cut.in_parts, &cut.sums})
    for (int i = 0; i < sums->number; ++i) {
      Sum& sum = sums->sum[i];
      sum.terms = pointer(sum.terms_at);
      if (sum.out_at >= 0) sum.out = pointer(sum.out_at);
    }
}

}  // namespace fastvae
