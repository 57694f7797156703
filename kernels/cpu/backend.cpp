// The driver and the table of one instruction set, behind two plain functions.
#include "loops.h"
#include "rows.h"

namespace fastvae::FASTVAE_ISA {

static const Table& table() {
  static const Table filled = [] {
    Table t;
    add_posterior(t);
    add_likelihood(t);
    add_counts(t);
    add_pixels(t);
    add_objective(t);
    return t;
  }();
  return filled;
}

// Whether every tensor that the formula reads lies in memory as a bfloat16 loop takes it.
static bool reads_bf16(const Job& job, unsigned tensors) {
  bool raw = tensors != 0 && !job.f64;
  for (int k = 0; k < job.inputs; ++k) {
    const Operand& input = job.input[k];
    raw = raw && (!(tensors >> k & 1) || (input.contiguous && input.type == Type::bf16 && input.data != nullptr));
  }
  return raw;
}

static void run(const CutJob& job, int64_t first_task, int64_t last_task) {
  const Entry& formula = table().find(job);
  unsigned wanted = 0;
  for (int k = 0; k < job.outputs; ++k) wanted |= unsigned(job.output[k].data != nullptr) << k;
  auto loop = [&](Arithmetic arithmetic) { return formula.find(arithmetic, wanted); };
  if (job.f64) walk<double>(job, loop(Arithmetic::f64), 0, first_task, last_task);
  else if (reads_bf16(job, formula.tensors))
    walk<float>(job, loop(Arithmetic::bf16), formula.tensors, first_task, last_task);
  else walk<float>(job, loop(Arithmetic::f32), 0, first_task, last_task);
}

static void sum_chunks(const CutJob& job) {
  if (job.f64) sum_chunks<double>(job);
  else sum_chunks<float>(job);
}

static void sum_copies(const CutJob& job, int output, int64_t first, int64_t last) {
  if (job.f64) sum_copies<double>(job, output, first, last);
  else sum_copies<float>(job, output, first, last);
}

static void philox_of(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count) {
  for (int64_t i = 0; i < count; ++i) philox_words(counter + 4 * i, key, words + 4 * i);
}

static void normals_of(uint64_t seed, int64_t first, int64_t last, float* out) {
  float buffer[4 * kStreamBlocks];
  for (int64_t i = first; i < last; i += 4 * kStreamBlocks) {
    int64_t count = std::min<int64_t>(last - i, 4 * kStreamBlocks);
    noise(seed, i, count, buffer);
    memcpy(out + i, buffer, count * sizeof(float));
  }
}

#define FASTVAE_STRING_(x) #x
#define FASTVAE_STRING(x) FASTVAE_STRING_(x)
extern const RowSteps row_steps;
void walk_mixture(const MixtureJob& job, int64_t first_task, int64_t last_task);
extern const Backend backend;
const Backend backend = {
    FASTVAE_STRING(FASTVAE_ISA), run, sum_chunks, sum_copies, philox_of, normals_of, row_steps, walk_mixture};

}  // namespace fastvae::FASTVAE_ISA
