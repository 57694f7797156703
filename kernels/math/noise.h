// The noise stream: Philox4x32-10 (Salmon et al. 2011) and Box & Muller (1958), four normals from each counter.
#pragma once

#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// The four words of a counter. A word is an integer of 64 bits, or a vector of such, whose upper half is ignored: the
// product of two words is then one multiplication, its high word one shift.
template <class Word>
struct Block {
  Word w0, w1, w2, w3;
};

FASTVAE_FN uint64_t multiply_low(uint64_t a, uint32_t b) { return (a & 0xffffffffu) * b; }

template <class Word>
FASTVAE_FN Block<Word> philox(Block<Word> c, uint32_t k0, uint32_t k1) {
  FASTVAE_UNROLL_10
  for (int round = 0; round < 10; ++round) {
    Word product0 = multiply_low(c.w0, 0xD2511F53u);
    Word product2 = multiply_low(c.w2, 0xCD9E8D57u);
    c = {(product2 >> 32) ^ c.w1 ^ k0, product2, (product0 >> 32) ^ c.w3 ^ k1, product0};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// The words of one counter of four words, at a key of two; each in 64 bits.
FASTVAE_FN void philox_words(const int64_t* c, const int64_t* key, int64_t* out) {
  Block<uint64_t> counter{uint64_t(c[0]), uint64_t(c[1]), uint64_t(c[2]), uint64_t(c[3])};
  Block<uint64_t> w = philox(counter, uint32_t(key[0]), uint32_t(key[1]));
  out[0] = uint32_t(w.w0), out[1] = uint32_t(w.w1), out[2] = uint32_t(w.w2), out[3] = uint32_t(w.w3);
}

struct Normals {
  float n0, n1;
};

FASTVAE_FN Normals box_muller(uint32_t radius_word, uint32_t angle_word) {
  // + 1/2: the uniform is never 0 and the radius at most 6.77.
  float u = fma(static_cast<float>(radius_word), 0x1p-32f, 0x1p-33f);
  float radius = sqrt(-2.0f * log_normal(u));
  // The top bits name the nearest quarter turn, the rest a signed fraction f of it: exact, no reduction by pi.
  uint32_t quarter = (angle_word + 0x20000000u) >> 30;
  float f = static_cast<float>(static_cast<int32_t>(angle_word << 2)) * 0x1p-32f;
  float f2 = f * f;
  float s = f * sine_polynomial(f2), c = cosine_polynomial(f2);
  bool swap = quarter & 1;
  float cosine = swap ? s : c, sine = swap ? c : s;
  float cos_radius = (quarter + 1) & 2 ? -radius : radius;
  float sin_radius = quarter & 2 ? -radius : radius;
  return {cosine * cos_radius, sine * sin_radius};
}

}  // namespace fastvae::FASTVAE_ISA
