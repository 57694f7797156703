// A job on the CPU: which instruction set serves, how the work is cut into tasks, which threads take them.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "../host/plan.h"
#include "cut_job.h"

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

constexpr int64_t kTaskElements = 8192;       // of short rows; also what is worth waking a thread for
constexpr int64_t kChunkElements = 8192;      // columns of a long row that one task takes
constexpr int64_t kStreamElements = 4 << 20;  // results beyond this no cache keeps until they are read

// Tasks of like size.
void cut(CutJob& job) {
  int64_t cols = std::max<int64_t>(job.cols, 1);
  if (cols > kChunkElements) {
    job.cols_per_task = kChunkElements;
    job.chunks = (cols + kChunkElements - 1) / kChunkElements;
  } else {
    job.cols_per_task = cols;
    int64_t rows_per_tile = cols <= kShortRow ? kTile / cols : 1;
    job.rows_per_task = std::max<int64_t>(kTaskElements / cols / rows_per_tile, 1) * rows_per_tile;
  }
  int64_t full_outputs = 0;
  for (int k = 0; k < job.outputs; ++k) full_outputs += job.output[k].data != nullptr && !job.output[k].summed;
  job.streaming = full_outputs * job.rows * job.cols > kStreamElements;
  job.tasks = (job.rows + job.rows_per_task - 1) / job.rows_per_task * job.chunks;
}

}  // namespace

void compute(const Job& planned) {
  if (planned.f64 ? is_skipped<double>(planned) : is_skipped<float>(planned)) return;
  CutJob job{planned};
  cut(job);
  std::vector<double> partial(job.chunks > 1 ? job.outputs * job.rows * job.chunks : 0);
  job.partial = partial.data();
  int64_t elements_per_task = std::max<int64_t>(job.rows_per_task * job.cols_per_task * job.samples, 1);
  int64_t grain = std::max<int64_t>(kTaskElements / elements_per_task, 1);
  if (job.tasks <= grain) {
    backend().run(job, 0, job.tasks);
  } else {
    torch::stable::parallel_for(0, job.tasks, grain,
                                [&](int64_t first, int64_t last) { backend().run(job, first, last); });
  }
  if (job.chunks > 1) backend().sum_chunks(job);
}

void compute_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, const Device&) {
  backend().philox(counter, key, words, count);
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
