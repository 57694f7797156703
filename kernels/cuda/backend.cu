// The table of kernels, and the kernels that belong to no formula.
#include "backend.h"
#include "kernels.h"
#include "samples.h"

namespace fastvae {

using namespace FASTVAE_ISA;

namespace {

const Table& table() {
  static const Table filled = [] {
    Table t;
    add_posterior(t);
    add_posterior_backward(t);
    add_likelihood(t);
    add_counts(t);
    add_pixels(t);
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

__global__ void __launch_bounds__(kThreads) normals_of(const uint64_t* seed, float* out, int64_t count) {
  int64_t block = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  store_normals(*seed, block, out, count);
}
#endif

}  // namespace

Launch kernel_of(const CutJob& job) { return table().find(job).launches[int(job.lot)]; }

void launch_sums_of(const Sums& sums, bool f64, void* stream) {
  (f64 ? launch_sums<double> : launch_sums<float>)(sums, stream);
}

void launch_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, void* stream) {
#if defined(__CUDACC__)
  unsigned blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  philox_of<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(counter, key, words, count);
#else
  static_cast<void>(stream);
  for (int64_t i = 0; i < count; ++i) philox_words(counter + 4 * i, key, words + 4 * i);
#endif
}

void launch_normals(const uint64_t* seed, float* out, int64_t count, void* stream) {
  int64_t blocks = (count + 3) / 4;
#if defined(__CUDACC__)
  unsigned grid = static_cast<unsigned>((blocks + kThreads - 1) / kThreads);
  normals_of<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(seed, out, count);
#else
  static_cast<void>(stream);
  for (int64_t block = 0; block < blocks; ++block) store_normals(*seed, block, out, count);
#endif
}

}  // namespace fastvae
