// The table of kernels, and the kernels that belong to no formula.
#include "backend.h"
#include "kernels.h"

namespace fastvae {

using namespace FASTVAE_ISA;

namespace {

const Table& table() {
  static const Table filled = [] {
    Table t;
    add_posterior(t);
    add_posterior_backward(t);
    add_likelihood(t);
    add_objective(t);
    return t;
  }();
  return filled;
}

#if defined(__CUDACC__)
__global__ void __launch_bounds__(kThreads)
    philox_of(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count) {
  int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) philox_words(counter + 4 * i, key, words + 4 * i);
}
#endif

}  // namespace

Launch kernel_of(const CutJob& job) { return table().find(job).launches[int(job.lot)]; }

Launch sum_chunks_of(const CutJob& job) { return job.f64 ? launch_sum_chunks<double> : launch_sum_chunks<float>; }

void launch_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, void* stream) {
#if defined(__CUDACC__)
  unsigned blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  philox_of<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(counter, key, words, count);
#else
  static_cast<void>(stream);
  for (int64_t i = 0; i < count; ++i) philox_words(counter + 4 * i, key, words + 4 * i);
#endif
}

}  // namespace fastvae
