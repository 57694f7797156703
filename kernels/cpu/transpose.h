// A matrix turned over.
#pragma once

#include "sums.h"

namespace fastvae::FASTVAE_ISA {

// out[c * out_step + r] = in[r * in_step + c], four by four where that is a few shuffles.
template <class T>
void transpose(const T* in, int64_t in_step, int64_t rows, int64_t cols, T* out, int64_t out_step) {
  int64_t whole_rows = 0, whole_cols = 0;
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
  if constexpr (sizeof(T) == 4) {
    using Four = typename Register<T, 16>::Type;
    whole_rows = rows & ~int64_t(3), whole_cols = cols & ~int64_t(3);
    for (int64_t r = 0; r < whole_rows; r += 4)
      for (int64_t c = 0; c < whole_cols; c += 4) {
        Four row[4];
        for (int i = 0; i < 4; ++i) row[i] = load_register<Four>(in + (r + i) * in_step + c);
        Four a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5),
             b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
        Four e = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7),
             f = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
        Four column[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                          __builtin_shufflevector(e, f, 0, 1, 4, 5), __builtin_shufflevector(e, f, 2, 3, 6, 7)};
        for (int i = 0; i < 4; ++i) memcpy(out + (c + i) * out_step + r, &column[i], sizeof(Four));
      }
  }
#endif
#endif
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) out[c * out_step + r] = in[r * in_step + c];
}

}  // namespace fastvae::FASTVAE_ISA
