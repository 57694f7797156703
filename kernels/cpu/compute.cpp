// A job on the CPU: which instruction set serves, how the work is cut into tasks, which threads take them.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "../host/plan.h"
#include "cut_job.h"
#include "mixture_job.h"
#include "row_job.h"

namespace fastvae {

#define FASTVAE_DECLARE(isa)    \
  namespace isa {               \
  extern const Backend backend; \
  }
FASTVAE_DECLARE(baseline)
#if defined(FASTVAE_X86)
FASTVAE_DECLARE(v3)
FASTVAE_DECLARE(v4)
#endif

namespace {

// The instruction sets of this build that the processor has, widest first.
std::vector<const Backend*> supported() {
  std::vector<const Backend*> result;
#if defined(FASTVAE_X86)
  bool has_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                __builtin_cpu_supports("f16c");
  bool has_v4 = has_v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_v4) result.push_back(&v4::backend);
  if (has_v3) result.push_back(&v3::backend);
#endif
  result.push_back(&baseline::backend);
  return result;
}

// The widest, or the one that FASTVAE_CPU_ISA names.
const Backend& choose() {
  const char* wanted = std::getenv("FASTVAE_CPU_ISA");
  if (wanted == nullptr || *wanted == 0) return *supported().front();
  for (const Backend* backend : supported())
    if (std::string_view(backend->name) == wanted) return *backend;
  STD_TORCH_CHECK(false, "FASTVAE_CPU_ISA=", wanted, ": this processor or this build has no such instruction set");
}

const Backend& backend() {
  static const Backend& chosen = choose();
  return chosen;
}

constexpr int64_t kReadBeyond = 16;  // elements behind the last that a sum may read

// Memory for sums in parts, all zero.
std::vector<double> make_room(CutJob& job) {
  bool in_parts = job.chunks > 1 || job.rows_per_sum != 1;
  int64_t parts = job.rows * job.chunks, size = kReadBeyond;
  for (int k = 0; k < job.outputs; ++k)
    size += job.copies * job.shared_size[k] + (in_parts && is_summed(job.output[k]) ? parts : 0);
  std::vector<double> memory(size > kReadBeyond ? size : 0);
  double* next = memory.data();
  for (int k = 0; k < job.outputs; ++k) {
    if (in_parts && is_summed(job.output[k])) job.partial[k] = next, next += parts;
    if (is_shared(job.output[k])) job.shared[k] = next, next += job.copies * job.shared_size[k];
  }
  return memory;
}

// A thread is woken for what is worth it.
template <class Run>
void in_parallel(int64_t count, int64_t elements_each, Run run) {
  int64_t grain = std::max<int64_t>(kTaskElements / std::max<int64_t>(elements_each, 1), 1);
  if (count <= grain) run(0, count);
  else torch::stable::parallel_for(0, count, grain, run);
}

}  // namespace

void compute(const Job& planned) {
  if (planned.f64 ? is_skipped<double>(planned) : is_skipped<float>(planned)) return;
  CutJob job{planned};
  cut(job);
  std::vector<double> memory = make_room(job);
  int64_t elements_per_task = job.leads * job.rows_per_task * job.cols_per_task * job.samples;
  in_parallel(job.tasks, elements_per_task, [&](int64_t first, int64_t last) { backend().run(job, first, last); });
  backend().sum_chunks(job);
  for (int k = 0; k < job.outputs; ++k)
    in_parallel(job.shared_size[k], job.copies,
                [&](int64_t first, int64_t last) { backend().sum_copies(job, k, first, last); });
}

// Rows are dealt to threads whole, and walked twice while they are in a cache; few long ones part by part.
void compute_rows(const Job& planned) {
  constexpr int64_t kEnoughRows = 32;
  ValuedRowJob job(planned);
  const RowSteps& steps = backend().rows;
  int64_t parts = job.rows * job.parts_per_row, part_elements = std::min(job.cols, kPartElements);
  std::vector<RowSums> sums(parts);
  std::vector<RowTerms> terms(parts);
  std::vector<double> values(job.rows);
  job.surveyed = sums.data();
  job.terms = terms.data();
  job.values = values.data();
  auto run = [&](RowSteps::Step step, int64_t count, int64_t elements_each) {
    in_parallel(count, elements_each, [&](int64_t first, int64_t last) { step(job, first, last); });
  };
  if (job.rows < kEnoughRows && job.parts_per_row > 1) {
    run(steps.survey, parts, part_elements);
    run(steps.settle, job.rows, 1);
    run(steps.finish, parts, part_elements);
    run(steps.value, job.rows, 1);
  } else {
    run(steps.whole, job.rows, job.cols);
  }
  if (!job.gives_values()) return;
  const Operand& out = job.output[0];
  for (int64_t i = 0; i < job.sums; ++i) {
    double total = 0;
    for (int64_t r = i * job.rows_per_sum; r < (i + 1) * job.rows_per_sum; ++r) total += values[r];
    if (job.f64) static_cast<double*>(out.data)[i] = total;
    else static_cast<float*>(out.data)[i] = float(total);
  }
}

// Tiles are cut by the shape alone, as the order of sums must be.
void compute_mixture(MixtureJob& job, void* out) {
  constexpr int64_t kElements = 16384, kWhole = 16, kLeast = 64, kMost = 512;  // of a tile's components, and its pixels
  int64_t each = std::max<int64_t>(job.components * (1 + job.channels), 1);
  int64_t most = std::clamp(kElements / each / kWhole * kWhole, kLeast, kMost);
  job.parts = (job.pixels + most - 1) / most;
  if (job.parts > 1) job.tile_pixels = ((job.pixels + job.parts - 1) / job.parts + kWhole - 1) / kWhole * kWhole;
  else job.tile_pixels = job.pixels, job.tile_rows = most / std::max<int64_t>(job.pixels, 1);
  job.tile_rows = std::max<int64_t>(std::min(job.tile_rows, job.batch), 1);
  job.row_tiles = (job.batch + job.tile_rows - 1) / job.tile_rows;
  int64_t rows = job.samples * job.batch;
  std::vector<double> values(rows * job.parts);
  job.values = values.data();
  in_parallel(job.tasks(), job.tile_rows * job.tile_pixels * each,
              [&](int64_t first, int64_t last) { backend().walk_mixture(job, first, last); });
  auto store = [&](int64_t row, double value) {
    if (job.f64) static_cast<double*>(out)[row] = value;
    else static_cast<float*>(out)[row] = float(value);
  };
  double total = 0;
  for (int64_t row = 0; row < rows; ++row) {
    double value = 0;
    for (int64_t part = 0; part < job.parts; ++part) value += values[row * job.parts + part];
    if (job.direction == Direction::value) store(row, value);
    total += value;
  }
  if (job.direction == Direction::one_pass) store(0, job.constants.factor * total);
}

void compute_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, const Device&) {
  backend().philox(counter, key, words, count);
}

void compute_normals(const uint64_t* seed, float* out, int64_t count, const Device&) {
  constexpr int64_t kPart = 1024;
  in_parallel((count + kPart - 1) / kPart, kPart, [&](int64_t first, int64_t last) {
    backend().normals(*seed, first * kPart, std::min(last * kPart, count), out);
  });
}

}  // namespace fastvae

// For `fastvae info`: the instruction sets that could serve, widest first, and the one that does.
extern "C" __attribute__((visibility("default"))) const char* fastvae_cpu_isas() {
  static const std::string names = [] {
    std::string list;
    for (const fastvae::Backend* backend : fastvae::supported())
      list += (list.empty() ? "" : " ") + std::string(backend->name);
    return list;
  }();
  return names.c_str();
}
extern "C" __attribute__((visibility("default"))) const char* fastvae_cpu_isa() { return fastvae::backend().name; }
