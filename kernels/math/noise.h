// The noise stream: Philox4x32-10 (Salmon et al. 2011) and Box & Muller (1958), four normals from each counter.
#pragma once

#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// The four words of a counter: of 32 bits; or of 64, or vectors of such, whose upper halves are ignored, since a vector
// unit has that product in one multiplication, and its high word in one shift.
template <class Word>
struct Block {
  Word w0, w1, w2, w3;
};

template <class Word>
struct Product {
  Word high, low;
};

FASTVAE_FN Product<uint32_t> multiply(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  // Of a product in C++ nvcc also adds up the factors' upper halves, which are 0.
  Product<uint32_t> p;
  asm("{ .reg .u64 t; mul.wide.u32 t, %2, %3; mov.b64 {%1, %0}, t; }" : "=r"(p.high), "=r"(p.low) : "r"(a), "r"(b));
  return p;
#else
  uint64_t product = uint64_t(a) * b;
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
#endif
}

FASTVAE_FN uint64_t multiply_low(uint64_t a, uint32_t b) { return (a & 0xffffffffu) * b; }

template <class Word>
FASTVAE_FN Product<Word> multiply(Word a, uint32_t b) {
  Word product = multiply_low(a, b);
  return {product >> 32, product};
}

template <class Word>
FASTVAE_FN Block<Word> philox(Block<Word> c, uint32_t k0, uint32_t k1) {
  FASTVAE_UNROLL_10
  for (int round = 0; round < 10; ++round) {
    Product<Word> p0 = multiply(c.w0, 0xD2511F53u), p2 = multiply(c.w2, 0xCD9E8D57u);
    c = {p2.high ^ c.w1 ^ k0, p2.low, p0.high ^ c.w3 ^ k1, p0.low};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// The words of one counter of four words, at a key of two; each in 64 bits.
FASTVAE_FN void philox_words(const int64_t* c, const int64_t* key, int64_t* out) {
  Block<uint32_t> counter{uint32_t(c[0]), uint32_t(c[1]), uint32_t(c[2]), uint32_t(c[3])};
  Block<uint32_t> w = philox(counter, uint32_t(key[0]), uint32_t(key[1]));
  out[0] = w.w0, out[1] = w.w1, out[2] = w.w2, out[3] = w.w3;
}

struct Normals {
  float n0, n1;
};

// sqrt(-2 log u) of u = word / 2^32 + 2^-33, which is never 0: at most 6.77.
FASTVAE_FN float radius_of(uint32_t word) {
  float u = fma(static_cast<float>(word), 0x1p-32f, 0x1p-33f);
#if defined(FASTVAE_GPU)
  // A GPU's own logarithm errs by 2^-22, relative below 1/2 and absolute above. Near 1, where that would count, a
  // polynomial in 1 - u, which is exact. So a radius of 0.25 errs by 3.3e-7 / (2 * 0.25), one of 6.77 by 6.77 * 2^-23.
  float v = 1.0f - u;
  return fast_sqrt(v < 0.03125f ? v * squared_radius_polynomial(v) : -1.3862943611f * fast_log2(u));
#else
  return sqrt(-2.0f * log_normal(u));
#endif
}

// x, with the other sign where the word's top bit is set.
FASTVAE_FN float flip(float x, uint32_t word) { return bit_cast<float>(bit_cast<uint32_t>(x) ^ (word & 0x80000000u)); }

FASTVAE_FN Normals box_muller(uint32_t radius_word, uint32_t angle_word) {
  float radius = radius_of(radius_word);
  // The top bits name the nearest quarter turn, the rest a signed fraction f of it: exact, no reduction by pi.
  uint32_t quarter = angle_word + 0x20000000u;
  float f = static_cast<float>(static_cast<int32_t>(angle_word << 2)) * 0x1p-32f;
  float f2 = f * f;
  float s = f * sine_polynomial(f2), c = cosine_polynomial(f2);
  bool swap = quarter & 0x40000000u;
  float cosine = swap ? s : c, sine = swap ? c : s;
  return {flip(cosine * radius, quarter + 0x40000000u), flip(sine * radius, quarter)};
}

}  // namespace fastvae::FASTVAE_ISA
