// Which elements of a tile are 0, or are not.
#pragma once

#include "convert.h"

namespace fastvae::FASTVAE_ISA {

// Of counts most are 0. Where more than 5 of 8 are not, it is the zeros that are brought together.
constexpr int64_t kFew = 5, kFewOf = 8;

// By bits, which of the first n elements, up to 32, are 0.
template <class T, class Stored>
FASTVAE_FN uint32_t zeros_among(const Stored* x, int n) {
  uint32_t zeros = 0;
  for (int i = 0; i < n; ++i) zeros |= uint32_t(load(x[i]) == T(0)) << i;
  return zeros;
}

// Where the elements are that are not 0, or those that are where they are fewer.
struct Few {
  bool zeros;
  int64_t count = 0;
  int32_t indices[kTile];

  template <class T, class Stored>
  FASTVAE_FN static Few of(const Stored* x, int64_t n) {
    Few few;
    uint32_t bits[kTile / 32];
    int64_t words = (n + 31) / 32, whole = n / 32, zeros = 0;
    int rest = int(n % 32);
    for (int64_t w = 0; w < whole; ++w) bits[w] = zeros_among<T>(x + 32 * w, 32);
    if (rest > 0) bits[whole] = zeros_among<T>(x + 32 * whole, rest);
    for (int64_t w = 0; w < words; ++w) zeros += __builtin_popcount(bits[w]);
    few.zeros = (n - zeros) * kFewOf > n * kFew;
    for (int64_t w = 0; w < words; ++w) {
      uint32_t there = w < whole ? ~0u : (1u << rest) - 1;
      for (uint32_t left = (few.zeros ? bits[w] : ~bits[w]) & there; left != 0; left &= left - 1)
        few.indices[few.count++] = int32_t(32 * w + __builtin_ctz(left));
    }
    return few;
  }
};

}  // namespace fastvae::FASTVAE_ISA
