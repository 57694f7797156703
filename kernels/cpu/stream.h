// The noise stream in vectors: as many counters at once as a register has 64-bit lanes.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../math/noise.h"

namespace fastvae::FASTVAE_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif

// A word for each of 2 kLanes counters: two chains of dependent multiplications at a time, since one alone waits.
struct Lanes {
  typedef uint64_t Vector __attribute__((vector_size(8 * kLanes)));
  Vector a, b;
};
FASTVAE_FN Lanes operator^(Lanes x, Lanes y) { return {x.a ^ y.a, x.b ^ y.b}; }
FASTVAE_FN Lanes operator^(Lanes x, uint32_t y) { return {x.a ^ uint64_t(y), x.b ^ uint64_t(y)}; }
FASTVAE_FN Lanes operator>>(Lanes x, int n) { return {x.a >> n, x.b >> n}; }

// Written out, since compilers do not see that only the lower halves take part.
FASTVAE_FN Lanes::Vector multiply_low(Lanes::Vector a, uint32_t b) {
#if defined(__AVX512F__)
  return (Lanes::Vector)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#elif defined(__AVX2__)
  return (Lanes::Vector)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#elif defined(__SSE2__)
  return (Lanes::Vector)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#else
  return (a & 0xffffffffu) * b;
#endif
}
FASTVAE_FN Lanes multiply_low(Lanes x, uint32_t y) { return {multiply_low(x.a, y), multiply_low(x.b, y)}; }

constexpr int kStreamBlocks = 64;  // counters made at a time, at most
constexpr int kStreamStep = 16;    // counters come in multiples of this

FASTVAE_FN void store(Lanes::Vector words, uint32_t* out) {
  typedef uint32_t Narrow __attribute__((vector_size(4 * kLanes)));
  Narrow narrow = __builtin_convertvector(words, Narrow);
  memcpy(out, &narrow, sizeof(narrow));
}
FASTVAE_FN void store(Lanes words, uint32_t* out) {
  store(words.a, out);
  store(words.b, out + kLanes);
}

FASTVAE_FN void words(uint64_t seed, uint64_t block, int count, uint32_t (&out)[4][kStreamBlocks]) {
  Lanes::Vector lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  for (int j = 0; j < count; j += 2 * kLanes) {
    Lanes low = {lane + (block + j), lane + (block + j + kLanes)}, zero = low ^ low;
    Block<Lanes> b = philox(Block<Lanes>{low, low >> 32, zero, zero}, uint32_t(seed), uint32_t(seed >> 32));
    store(b.w0, out[0] + j);
    store(b.w1, out[1] + j);
    store(b.w2, out[2] + j);
    store(b.w3, out[3] + j);
  }
}

// Normals of `count` counters from `block` on; count is a multiple of kStreamStep.
inline void normals(uint64_t seed, uint64_t block, int count, float* out) {
  uint32_t w[4][kStreamBlocks];
  words(seed, block, count, w);
  for (int j = 0; j < count; ++j) {
    Normals a = box_muller(w[0][j], w[1][j]), b = box_muller(w[2][j], w[3][j]);
    out[4 * j] = a.n0;
    out[4 * j + 1] = a.n1;
    out[4 * j + 2] = b.n0;
    out[4 * j + 3] = b.n1;
  }
}

// Noise of the elements first .. first + n; returns where in `buffer` it begins. The buffer holds noise_capacity(n).
constexpr int64_t noise_capacity(int64_t n) { return n + 4 * kStreamStep + 4; }

inline const float* noise(uint64_t seed, int64_t first, int64_t n, float* buffer) {
  int64_t skip = first % 4, blocks = (skip + n + 3) / 4;
  for (int64_t j = 0; j < blocks; j += kStreamBlocks) {
    int64_t rest = (blocks - j + kStreamStep - 1) / kStreamStep * kStreamStep;
    normals(seed, first / 4 + j, int(rest < kStreamBlocks ? rest : kStreamBlocks), buffer + 4 * j);
  }
  return buffer + skip;
}

}  // namespace fastvae::FASTVAE_ISA
