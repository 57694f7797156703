// Stirling's series: what lgamma and digamma are beside their leading terms. Differences of lgamma at large arguments
// are then differences of small numbers.
#pragma once

#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// Arguments below this are shifted up by it, which a product makes good: the series start there.
template <class T>
constexpr int kShift = 1;
template <>
constexpr int kShift<double> = 4;

// lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2), for 1/v of kShift or more.
template <class T>
FASTVAE_FN T stirling(T v) {
  return v * stirling_polynomial(v * v);
}

// log(1/v) - v/2 - digamma(1/v), likewise.
template <class T>
FASTVAE_FN T digamma_rest(T v) {
  return v * v * digamma_polynomial(v * v);
}

// log(1 + t) and t - log(1 + t), each to full relative accuracy. `q` is 1 + t, and made otherwise where that cancels.
template <class T>
struct Log1p {
  T log, rest;
};

// Of positive normal q; NaN comes through.
FASTVAE_FN Log1p<float> log1p_normal(float t, float q) {
  int32_t bits = bit_cast<int32_t>(q) - 0x3f3504f3;
  int32_t exponent = bits >> 23;
  bool near = exponent == 0;
  float e = static_cast<float>(exponent);
  float f = choose(near, t, bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f);
  float bend = f * f * fma(f, log_polynomial(f), -0.5f);
  float log = fma(e, kLn2High, fma(e, kLn2Low, bend) + f) + (q - q);
  return {log, choose(near, -bend, t - log)};
}

FASTVAE_FN Log1p<float> log1p_of(float t, float q) {
  Log1p<float> normal = log1p_normal(t, q);
  float log = choose(q == 0.0f, -INFINITY, normal.log);
  log = choose(q >= 0.0f, log, NAN);
  log = choose(q > 3.40282347e38f, q, log);
  return {log, choose(log == normal.log, normal.rest, t - log)};
}

FASTVAE_FN Log1p<double> log1p_of(double t, double q) {
  bool near = (q > 0.7) & (q < 1.4);
  double log = near ? std::log1p(t) : std::log(q);
  double r = t / (2 + t), r2 = r * r, term = r2, series = 0;  // log(1 + t) = 2 artanh r
  for (int j = 3; j < 27; j += 2) {                           // 0.04^12 / 27 is below 2^-53 of a third
    series += term / j;
    term *= r2;
  }
  return {log, near ? r * (t - 2 * series) : t - log};
}
FASTVAE_FN Log1p<double> log1p_normal(double t, double q) { return log1p_of(t, q); }

}  // namespace fastvae::FASTVAE_ISA
