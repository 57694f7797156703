// What differs between the compilers that read kernels/math: function attributes, unrolling, fused multiply-add, bit
// casts.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define FASTVAE_FN __host__ __device__ __forceinline__
#else
#define FASTVAE_FN inline __attribute__((always_inline))
#endif
#if defined(__CUDA_ARCH__)
#define FASTVAE_UNROLL_10 _Pragma("unroll 10")
#elif defined(__CUDACC__)
#define FASTVAE_UNROLL_10  // nvcc and the host's compiler agree on no pragma
#else
#define FASTVAE_UNROLL_10 _Pragma("GCC unroll 10")
#endif

// Each instruction set compiles these headers again; a namespace of its own keeps the copies apart at link time.
#ifndef FASTVAE_ISA
#define FASTVAE_ISA generic
#endif

// Whether this is a GPU's code, be it that the host compiles it to test it.
#define FASTVAE_IS_gpu 1
#define FASTVAE_JOIN(a, b) a##b
#define FASTVAE_IS(isa) FASTVAE_JOIN(FASTVAE_IS_, isa)
#if FASTVAE_IS(FASTVAE_ISA)
#define FASTVAE_GPU 1
#endif

namespace fastvae::FASTVAE_ISA {

// Contraction is off and every fused operation is written out: vector body and scalar tail then give the same bits.
FASTVAE_FN float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return ::fmaf(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

FASTVAE_FN double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return ::fma(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class To, class From>
FASTVAE_FN To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

#if defined(FASTVAE_GPU)
// Polynomials by Horner's scheme, coefficients from the constant term up: the fewest operations, which is what binds a
// thread that has eight elements in flight.
template <class T>
FASTVAE_FN T polynomial(T, T c0) {
  return c0;
}
template <class T, class... Rest>
FASTVAE_FN T polynomial(T x, T c0, Rest... rest) {
  return fma(polynomial(x, rest...), x, c0);
}
#else
// Polynomials by Estrin's scheme, coefficients from the constant term up: pairs first, so that the chain of dependent
// operations, which is what binds these loops, has the logarithm of Horner's length.
template <class T>
FASTVAE_FN T polynomial(T, T c0) {
  return c0;
}
template <class T>
FASTVAE_FN T polynomial(T x, T c0, T c1) {
  return fma(c1, x, c0);
}
template <class T>
FASTVAE_FN T polynomial(T x, T c0, T c1, T c2) {
  return fma(c2, x * x, fma(c1, x, c0));
}
template <class T>
FASTVAE_FN T polynomial(T x, T c0, T c1, T c2, T c3) {
  return fma(fma(c3, x, c2), x * x, fma(c1, x, c0));
}
template <class T, class... Rest>
FASTVAE_FN T polynomial(T x, T c0, T c1, T c2, T c3, Rest... rest) {
  T x2 = x * x;
  return fma(polynomial(x, rest...), x2 * x2, polynomial(x, c0, c1, c2, c3));
}
#endif

}  // namespace fastvae::FASTVAE_ISA
