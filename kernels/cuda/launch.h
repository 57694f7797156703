// Kernels: threads' stretches into sums of rows, in an order that the shape alone decides.
#pragma once

#include "backend.h"
#include "rows.h"

namespace fastvae::FASTVAE_ISA {

constexpr int kWarps = kThreads / kWarp;

#if defined(__CUDACC__)

// Blocks that fit on a multiprocessor at once, at least: registers are given out accordingly. As many as the formula's
// operands let through without spilling.
template <class D, class A>
constexpr int resident_blocks() {
  constexpr int operands = D::inputs + D::outputs;
  if (operands > 8 || (D::sampled == 2 && operands > 6 && A::width == 8)) return 3;
  if (kScattered<A> || D::sampled == 2 || (operands + 2 * D::sampled > 6 && A::width == 8)) return 4;
  return operands > 4 || (D::sampled == 1 && A::width == 8) ? 5 : 6;
}

template <class T>
__device__ __forceinline__ T warp_sum(T value, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// Sum over the threads that share a row. All threads of the block take part; lane 0 has the result.
template <class T>
__device__ __forceinline__ T team_sum(T value, int lanes, T (&of_warps)[kWarps]) {
  value = warp_sum(value, lanes < kWarp ? lanes : kWarp);
  if (lanes <= kWarp) return value;
  int warp = threadIdx.x / kWarp;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) of_warps[warp] = value;
  __syncthreads();
  for (int other = 1; other < lanes / kWarp; ++other) value += of_warps[(warp + other) % kWarps];
  return value;
}

template <class D, class A>
__global__ void __launch_bounds__(kThreads, resident_blocks<D, A>()) walk(const __grid_constant__ CutJob job) {
  using T = typename A::T;
  __shared__ T of_warps[kWarps];
  if (is_skipped<T>(job)) return;
  for (int64_t tile = blockIdx.x; tile < job.tiles; tile += gridDim.x) {
    Stretch stretch = stretch_of<A>(job, tile, threadIdx.x);
    T sums[D::outputs];
    walk_stretch<D, A>(job, stretch, sums);
#pragma unroll
    for (int k = 0; k < D::outputs; ++k) {
      if (!is_summed(job.output[k])) continue;
      T total = team_sum(sums[k], 1 << job.log_lanes, of_warps);
      if (stretch.lane == 0 && stretch.row < job.rows) store_team_sum(job, stretch, k, total);
    }
  }
}

// Partial sums of long rows meet here, a warp for each row.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_chunks(const __grid_constant__ CutJob job) {
  int64_t index = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (index >= job.outputs * job.rows || !is_summed(job.output[index / job.rows])) return;
  const T* chunk = static_cast<const T*>(job.partial) + index * job.chunks;
  double total = 0;
  for (int64_t i = threadIdx.x % kWarp; i < job.chunks; i += kWarp) total += chunk[i];
  total = warp_sum(total, kWarp);
  if (threadIdx.x % kWarp == 0) store_sum<T>(job, job.output[index / job.rows], index % job.rows, total);
}

template <class D, class A>
void launch(const CutJob& job, int64_t blocks, void* stream) {
  walk<D, A><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
}

template <class T>
void launch_sum_chunks(const CutJob& job, int64_t blocks, void* stream) {
  sum_chunks<T><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
}

#else  // One thread after the other on the host: what tests run where there is no GPU.

template <class T>
T butterfly(T* values, int count) {
  for (int step = count / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) values[i] += values[i + step];
  return values[0];
}

template <class T>
T team_sum(T* values, int lanes) {
  T total = 0;
  for (int warp = 0; warp < lanes; warp += kWarp) total += butterfly(values + warp, lanes < kWarp ? lanes : kWarp);
  return total;
}

template <class D, class A>
void launch(const CutJob& job, int64_t, void*) {
  using T = typename A::T;
  if (is_skipped<T>(job)) return;
  for (int64_t tile = 0; tile < job.tiles; ++tile) {
    T sums[kThreads][D::outputs], column[kThreads];
    for (int thread = 0; thread < kThreads; ++thread)
      walk_stretch<D, A>(job, stretch_of<A>(job, tile, thread), sums[thread]);
    for (int k = 0; k < D::outputs; ++k) {
      if (!is_summed(job.output[k])) continue;
      for (int thread = 0; thread < kThreads; ++thread) column[thread] = sums[thread][k];
      for (int first = 0; first < kThreads; first += 1 << job.log_lanes) {
        Stretch stretch = stretch_of<A>(job, tile, first);
        T total = team_sum(column + first, 1 << job.log_lanes);
        if (stretch.row < job.rows) store_team_sum(job, stretch, k, total);
      }
    }
  }
}

template <class T>
void launch_sum_chunks(const CutJob& job, int64_t, void*) {
  for (int64_t index = 0; index < job.outputs * job.rows; ++index) {
    const Operand& output = job.output[index / job.rows];
    if (!is_summed(output)) continue;
    double lanes[kWarp] = {};
    const T* chunk = static_cast<const T*>(job.partial) + index * job.chunks;
    for (int64_t i = 0; i < job.chunks; ++i) lanes[i % kWarp] += chunk[i];
    store_sum<T>(job, output, index % job.rows, butterfly(lanes, kWarp));
  }
}

#endif

}  // namespace fastvae::FASTVAE_ISA
