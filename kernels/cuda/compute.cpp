// A job on a GPU: the memory it needs, and the launches.
#include <algorithm>
#include <optional>

#include "../host/plan.h"
#include "backend.h"
#include "cut.h"
#include "device.h"

namespace fastvae {

namespace {

constexpr int64_t kBlocksPerMultiprocessor = 32;

}  // namespace

void compute(const Job& planned) {
  using torch::headeronly::ScalarType;
  Cut cut = fastvae::cut(planned);
  const CutJob& job = cut.job;
  OnDevice device(job.device.index);
  std::optional<Tensor> memory;  // freed while the kernels may still be under way, as torch's allocator allows
  if (cut.memory > 0) {
    memory = empty({cut.memory}, job.f64 ? ScalarType::Double : ScalarType::Float, job.device);
    give_memory(cut, memory->data_ptr());
  }
  if (job.tiles > 0) {
    kernel_of(job)(job, std::min(job.tiles, device.multiprocessors() * kBlocksPerMultiprocessor), device.stream());
    device.check_launch();
  }
  for (const Sums* sums : {&cut.in_parts, &cut.sums}) {
    if (sums->number == 0) continue;
    launch_sums_of(*sums, job.f64, device.stream());
    device.check_launch();
  }
}

void compute_rows(const Job& planned) {
  RowJob job(planned);
  for_operands(job, [&](Operand& operand) { operand.strides[kRun] = operand.strides[job.ndim - 1]; });
  if (job.rows == 0 && !job.gives_values()) return;
  OnDevice device(job.device.index);
  int64_t parts = job.rows * job.parts_per_row, numbers = (sizeof(RowSums) + sizeof(RowTerms)) / sizeof(double);
  Tensor memory = empty({parts * numbers}, torch::headeronly::ScalarType::Double, job.device);
  job.surveyed = static_cast<RowSums*>(memory.data_ptr());
  job.terms = reinterpret_cast<RowTerms*>(job.surveyed + parts);
  launch_rows(job, device.stream());
  device.check_launch();
}

void compute_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, const Device& on) {
  if (count == 0) return;
  OnDevice device(on.index);
  launch_philox(counter, key, words, count, device.stream());
  device.check_launch();
}

void compute_normals(const uint64_t* seed, float* out, int64_t count, const Device& on) {
  if (count == 0) return;
  OnDevice device(on.index);
  launch_normals(seed, out, count, device.stream());
  device.check_launch();
}

}  // namespace fastvae
