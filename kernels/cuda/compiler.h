// The CUDA kernels' sources are C++ that both nvcc and the host's compiler read: tests run them on the host.
#pragma once

#include "../math/platform.h"

#if defined(__CUDACC__)
#define FASTVAE_CALL static __host__ __device__ __noinline__
#else
#define FASTVAE_CALL inline
#endif

#if defined(__CUDA_ARCH__)
#define FASTVAE_UNROLL _Pragma("unroll")
#define FASTVAE_ROLLED _Pragma("unroll 1")
#else
#define FASTVAE_UNROLL
#define FASTVAE_ROLLED
#endif
