// Of neighbouring elements the sum, and the largest.
#pragma once

#include "stream.h"

namespace fastvae::FASTVAE_ISA {

constexpr int kRegisterBytes = 8 * kLanes;
constexpr int kSumPadding = kRegisterBytes / 4;  // elements that `sum` may read past the end

// A register's worth of lanes; compilers make nothing of the kind from arrays.
template <class T, int bytes>
struct Register {
  typedef T Type __attribute__((vector_size(bytes)));
};

template <class To, class T>
FASTVAE_FN To load_register(const T* from) {
  To to;
  memcpy(&to, from, sizeof(to));
  return to;
}

template <class T, int bytes>
FASTVAE_FN T sum_lanes(typename Register<T, bytes>::Type lanes) {
  if constexpr (bytes == sizeof(T)) {
    return lanes[0];
  } else {
    T values[bytes / sizeof(T)];
    memcpy(values, &lanes, sizeof(lanes));
    using Half = typename Register<T, bytes / 2>::Type;
    return sum_lanes<T, bytes / 2>(load_register<Half>(values) + load_register<Half>(values + bytes / 2 / sizeof(T)));
  }
}

// Sum in an order that depends on n alone: lanes first, then pairs of lanes.
template <class T>
FASTVAE_FN T sum(const T* x, int64_t n) {
  using Lanes = typename Register<T, kRegisterBytes>::Type;
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr int64_t width = kRegisterBytes / sizeof(T);
  Lanes a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    a += load_register<Lanes>(x + i);
    b += load_register<Lanes>(x + i + width);
    c += load_register<Lanes>(x + i + 2 * width);
    d += load_register<Lanes>(x + i + 3 * width);
  }
  a = (a + b) + (c + d);
  for (; i + width <= n; i += width) a += load_register<Lanes>(x + i);
  if (i < n) {
    typename Register<Index, kRegisterBytes>::Type lane;
    for (int j = 0; j < width; ++j) lane[j] = j;
    Lanes rest = load_register<Lanes>(x + i), nothing = {};
    a += lane < Index(n - i) ? rest : nothing;
  }
  return sum_lanes<T, kRegisterBytes>(a);
}

template <class T>
T greatest(const T* x, int64_t n) {
  using Lanes = typename Register<T, kRegisterBytes>::Type;
  constexpr int64_t width = kRegisterBytes / sizeof(T);
  T all = -T(INFINITY);
  int64_t i = 0;
  if (n >= 4 * width) {
    Lanes most[4];
    for (int k = 0; k < 4; ++k) most[k] = load_register<Lanes>(x + k * width);
    for (i = 4 * width; i + 4 * width <= n; i += 4 * width)
      for (int k = 0; k < 4; ++k) {
        Lanes next = load_register<Lanes>(x + i + k * width);
        most[k] = next > most[k] ? next : most[k];
      }
    for (const Lanes& lanes : most)
      for (int j = 0; j < width; ++j) all = max(all, lanes[j]);
  }
  for (; i < n; ++i) all = max(all, x[i]);
  return all;
}

}  // namespace fastvae::FASTVAE_ISA
