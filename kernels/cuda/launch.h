// Kernels: threads' stretches into sums, in an order that the shape alone decides.
#pragma once

#include "backend.h"
#include "columns.h"

namespace fastvae::FASTVAE_ISA {

constexpr int kWarps = kThreads / kWarp;

// What a thread of `sum_terms` adds up: terms of one result that lie side by side, by a warp; or side by side those of
// a warp's results.
struct Share {
  int64_t result, first, last, step;
};

FASTVAE_FN bool by_results(const Sum& sum) { return sum.ndim > 0 && sum.kept[sum.ndim - 1] && sum.parts == 1; }
FASTVAE_FN int64_t results_per_block(const Sum& sum) { return by_results(sum) ? kWarp : kWarps; }

FASTVAE_FN Share share_of(const Sum& sum, int64_t block, int thread) {
  int lane = thread % kWarp, warp = thread / kWarp;
  if (by_results(sum)) return {block * kWarp + lane, warp, sum.each, kWarps};
  int64_t result = block * kWarps + warp, part = sum.parts == 1 ? 0 : result % sum.parts;
  int64_t size = sum.parts == 1 ? sum.each : (sum.each + sum.parts - 1) / sum.parts, last = (part + 1) * size;
  return {result, part * size + lane, last < sum.each ? last : sum.each, kWarp};
}

// Where a term lies.
FASTVAE_FN int64_t offset_of_term(const Sum& sum, int64_t result, int64_t term) {
  int64_t offset = 0, stride = 1;
  for (int d = sum.ndim - 1; d >= 0; --d) {
    int64_t index = sum.kept[d] ? result : term, above = quotient(index, sum.sizes[d]);
    offset += (index - above * sum.sizes[d]) * stride;
    stride *= sum.sizes[d];
    result = sum.kept[d] ? above : result;
    term = sum.kept[d] ? term : above;
  }
  return offset;
}

// Where a result does; parts lie side by side.
FASTVAE_FN int64_t offset_of_result(const Sum& sum, int64_t result) {
  if (sum.parts > 1) return result;
  int64_t offset = 0;
  for (int d = sum.ndim - 1; d >= 0; --d) {
    if (!sum.kept[d]) continue;
    int64_t above = quotient(result, sum.sizes[d]);
    offset += (result - above * sum.sizes[d]) * sum.strides[d];
    result = above;
  }
  return offset;
}

template <class T>
FASTVAE_FN double add_share(const Sum& sum, const Share& share) {
  double total = 0;
  if (share.result >= sum.count * sum.parts) return total;
  const T* terms = static_cast<const T*>(sum.terms);
  int64_t result = sum.parts == 1 ? share.result : share.result / sum.parts;
  for (int64_t term = share.first; term < share.last; term += share.step)
    total += terms[offset_of_term(sum, result, term)];
  return total;
}

template <class T>
FASTVAE_FN void store_result(const Sum& sum, int64_t result, double total) {
  if (result < sum.count * sum.parts)
    static_cast<T*>(sum.out)[offset_of_result(sum, result)] = static_cast<T>(total * sum.scale);
}

#if defined(__CUDACC__)

template <class D>
constexpr bool kCrowdedValue = false;
template <class F>
constexpr bool kCrowdedValue<Value<F>> = kCrowded<F>;

// Blocks that fit on a multiprocessor at once, at least: registers are given out accordingly. As many as the formula's
// operands let through without spilling.
template <class D, class A>
constexpr int resident_blocks() {
  constexpr int operands = D::inputs + D::outputs;
  if (D::long_winded) return 3;
  if (!kDense<A>) return operands > 6 || D::sampled == 2 ? 3 : 4;
  if (operands > 8 || (D::sampled == 2 && operands > 6 && A::width == 8)) return 3;
  if (D::sampled == 2 || (operands + 2 * D::sampled > 6 && A::width == 8)) return 4;
  int blocks = operands > 4 || (D::sampled == 1 && A::width == 8) ? 5 : 6;
  return kCrowdedValue<D> && A::width == 8 ? blocks - 1 : blocks;
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
    FASTVAE_UNROLL
    for (int k = 0; k < D::outputs; ++k) {
      if (!has(job, Fate::summed, k)) continue;
      T total = team_sum(sums[k], 1 << job.log_lanes, of_warps);
      if (stretch.lane == 0 && stretch.row < job.rows) store_team_sum(job, stretch, k, total);
    }
  }
}

template <class D>
constexpr int resident_columns() {
  return D::long_winded && D::inputs > 3 && D::outputs > 3 ? 2 : 3;
}

template <class D>
__global__ void __launch_bounds__(kThreads, resident_columns<D>()) walk_columns(const __grid_constant__ CutJob job) {
  __shared__ float of_warps[kWarps];
  for (int64_t tile = blockIdx.x; tile < job.tiles; tile += gridDim.x) {
    Place place = place_of(job, tile, threadIdx.x);
    float sums[D::outputs][General::width];
    walk_down<D>(job, place, sums);
    FASTVAE_UNROLL
    for (int k = 0; k < D::outputs; ++k) {
      if (has(job, Fate::by_columns, k)) store_columns(job, k, place, sums[k]);
      if (!has(job, Fate::summed, k)) continue;
      float total = team_sum(sum(place.unit, sums[k]), 1 << job.log_lanes, of_warps);
      if (place.lane == 0 && place.copy < job.copies) terms_at(job, k, place, job.chunks)[place.chunk] = total;
    }
  }
}

// Terms that kernels have left meet here.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_terms(const __grid_constant__ Sums sums) {
  const Sum& sum = sums.sum[blockIdx.y];
  __shared__ double of_warps[kWarps][kWarp];
  Share share = share_of(sum, blockIdx.x, threadIdx.x);
  double total = add_share<T>(sum, share);
  int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (by_results(sum)) {
    of_warps[warp][lane] = total;
    __syncthreads();
    if (warp > 0) return;
    for (int other = 1; other < kWarps; ++other) total += of_warps[other][lane];
  } else {
    total = warp_sum(total, kWarp);
    if (lane > 0) return;
  }
  store_result<T>(sum, share.result, total);
}

template <class D, class A>
void launch(const CutJob& job, int64_t blocks, void* stream) {
  walk<D, A><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
}

template <class D>
void launch_columns(const CutJob& job, int64_t blocks, void* stream) {
  walk_columns<D><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
}

template <class T>
void launch_sums(const Sums& sums, void* stream) {
  int64_t blocks = 1;
  for (int k = 0; k < sums.number; ++k) {
    const Sum& sum = sums.sum[k];
    int64_t wanted = (sum.count * sum.parts + results_per_block(sum) - 1) / results_per_block(sum);
    blocks = wanted > blocks ? wanted : blocks;
  }
  dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(sums.number));
  sum_terms<T><<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(sums);
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
      if (!has(job, Fate::summed, k)) continue;
      for (int thread = 0; thread < kThreads; ++thread) column[thread] = sums[thread][k];
      for (int first = 0; first < kThreads; first += 1 << job.log_lanes) {
        Stretch stretch = stretch_of<A>(job, tile, first);
        T total = team_sum(column + first, 1 << job.log_lanes);
        if (stretch.row < job.rows) store_team_sum(job, stretch, k, total);
      }
    }
  }
}

template <class D>
void launch_columns(const CutJob& job, int64_t, void*) {
  for (int64_t tile = 0; tile < job.tiles; ++tile) {
    float sums[kThreads][D::outputs][General::width], column[kThreads];
    for (int thread = 0; thread < kThreads; ++thread) walk_down<D>(job, place_of(job, tile, thread), sums[thread]);
    for (int k = 0; k < D::outputs; ++k) {
      for (int thread = 0; thread < kThreads; ++thread) {
        Place place = place_of(job, tile, thread);
        if (has(job, Fate::by_columns, k)) store_columns(job, k, place, sums[thread][k]);
        column[thread] = sum(place.unit, sums[thread][k]);
      }
      for (int first = 0; has(job, Fate::summed, k) && first < kThreads; first += 1 << job.log_lanes) {
        Place place = place_of(job, tile, first);
        float total = team_sum(column + first, 1 << job.log_lanes);
        if (place.copy < job.copies) terms_at(job, k, place, job.chunks)[place.chunk] = total;
      }
    }
  }
}

template <class T>
void sum_block(const Sum& sum, int64_t block) {
  double totals[kThreads];
  for (int thread = 0; thread < kThreads; ++thread) totals[thread] = add_share<T>(sum, share_of(sum, block, thread));
  for (int r = 0; r < results_per_block(sum); ++r) {
    double total = 0;
    if (by_results(sum))
      for (int warp = 0; warp < kWarps; ++warp) total += totals[warp * kWarp + r];
    else total = butterfly(totals + r * kWarp, kWarp);
    store_result<T>(sum, block * results_per_block(sum) + r, total);
  }
}

template <class T>
void launch_sums(const Sums& sums, void*) {
  for (int k = 0; k < sums.number; ++k) {
    const Sum& sum = sums.sum[k];
    for (int64_t block = 0; block * results_per_block(sum) < sum.count * sum.parts; ++block) sum_block<T>(sum, block);
  }
}

#endif

}  // namespace fastvae::FASTVAE_ISA
