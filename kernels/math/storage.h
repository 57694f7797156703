// Types that only memory has, and their values as float.
#pragma once

#if defined(__F16C__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#include "platform.h"

namespace fastvae::FASTVAE_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

FASTVAE_FN float to_float(BFloat16 x) { return bit_cast<float>(uint32_t(x.bits) << 16); }

FASTVAE_FN float to_float(Half x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("{ .reg .f16 h; mov.b16 h, %1; cvt.f32.f16 %0, h; }" : "=f"(result) : "h"(x.bits));
  return result;
#elif defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  float normal = bit_cast<float>(magnitude << 13) * 0x1p112f;  // subnormals included
  uint32_t bits = magnitude >= 0x7c00 ? (magnitude << 13) | 0x7f800000u : bit_cast<uint32_t>(normal);
  return bit_cast<float>(bits | sign);
#endif
}

template <class T>
FASTVAE_FN float to_float(T x) {
  return static_cast<float>(x);
}

FASTVAE_FN void from_float(float x, BFloat16& out) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
#else
  uint32_t bits = bit_cast<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  out.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
#endif
}

FASTVAE_FN void from_float(float x, Half& out) {
#if defined(__CUDA_ARCH__)
  asm("{ .reg .f16 h; cvt.rn.f16.f32 h, %1; mov.b16 %0, h; }" : "=h"(out.bits) : "f"(x));
#elif defined(__F16C__)
  out.bits = static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
  uint32_t bits = bit_cast<uint32_t>(x), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  // Adding 1/2 lines a subnormal half's last bit up with a float's.
  uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  out.bits = static_cast<uint16_t>(half | sign);
#endif
}

}  // namespace fastvae::FASTVAE_ISA
