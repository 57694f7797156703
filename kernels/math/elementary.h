// Elementary functions: branch-free polynomials in float, so that loops over them vectorise; libm in double.
//
// The float coefficients are minimax (Remez) fits; the bound behind each is the fit's largest relative error.
// NaN and infinity come through as IEEE 754 has them.
#pragma once

#include "platform.h"

namespace fastvae::FASTVAE_ISA {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2High = 0.693145752f;     // 16 bits: n * kLn2High is exact
constexpr float kLn2Low = 1.42860677e-06f;
constexpr float kRoundMagic = 12582912.0f;   // 1.5 * 2^23: adding it rounds to an integer

template <class T>
FASTVAE_FN T min(T a, T b) {  // NaN in `a` comes through
  return a > b ? b : a;
}
template <class T>
FASTVAE_FN T max(T a, T b) {
  return a < b ? b : a;
}

template <class T>
FASTVAE_FN T abs(T x) {
  return x < T(0) ? -x : x;
}

// e^t - 1 and e^t - 1 - t, both to full relative accuracy, from one reduction t = n ln 2 + r.
template <class T>
struct ExpMinus {
  T expm1;
  T expm1_minus_t;
};

FASTVAE_FN ExpMinus<float> exp_minus(float t) {
  float x = max(min(t, 89.0f), -30.0f);
  // Below 1/2 nothing is reduced: subtracting t after the fact would cancel.
  float shifted = abs(x) < 0.5f ? kRoundMagic : fma(x, kLog2E, kRoundMagic);
  float n = shifted - kRoundMagic;
  float r = fma(n, -kLn2Low, fma(n, -kLn2High, x));
  float q = r * r *  // 2.4e-8 on [-1/2, 1/2]
            polynomial(r, 0.5f, 0.166666657f, 0.0416657962f, 0.00833345205f, 0.0013981997f, 0.000198756301f);
  // s = 2^(n - 1), since 2^128 is no float.
  float s = bit_cast<float>((bit_cast<int32_t>(shifted) - bit_cast<int32_t>(kRoundMagic) + 126) << 23);
  float expm1 = 2.0f * fma(s, r + q, s - 0.5f);
  return {expm1, n == 0.0f ? q : expm1 - t};
}

FASTVAE_FN ExpMinus<double> exp_minus(double t) {
  double expm1 = std::expm1(t);
  double term = t * t / 2, series = 0;
  for (int k = 3; k < 20; ++k) {  // 0.5^18 / 20! is below 2^-52 of the sum
    series += term;
    term *= t / k;
  }
  return {expm1, std::fabs(t) < 0.5 ? series : expm1 - t};
}

FASTVAE_FN float exp(float t) {
  float x = max(min(t, 89.0f), -105.0f);
  float shifted = fma(x, kLog2E, kRoundMagic);
  float n = shifted - kRoundMagic;
  float r = fma(n, -kLn2Low, fma(n, -kLn2High, x));
  float p = fma(r * r,  // 3.1e-9 on [-ln 2 / 2, ln 2 / 2]
                polynomial(r, 0.49999994f, 0.166665196f, 0.0416683927f, 0.0083687799f, 0.00138144696f), r) +
            1.0f;
  // In two factors: 2^128 and the subnormals are out of one factor's range.
  int32_t k = bit_cast<int32_t>(shifted) - bit_cast<int32_t>(kRoundMagic);
  int32_t half = k >> 1;
  return p * bit_cast<float>((half + 127) << 23) * bit_cast<float>((k - half + 127) << 23);
}
FASTVAE_FN double exp(double t) { return std::exp(t); }

// log for positive normal x only.
FASTVAE_FN float log_normal(float x) {
  int32_t bits = bit_cast<int32_t>(x) - 0x3f3504f3;  // of sqrt(1/2): the mantissa m lands in [sqrt(1/2), sqrt(2))
  float e = static_cast<float>(bits >> 23);
  float f = bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  float p = polynomial(f, 0.333333164f, -0.250008076f, 0.200022861f, -0.166245967f, 0.141812131f, -0.131284028f,
                       0.128814057f, -0.0786021054f);  // 5.9e-9 of f
  float f2 = f * f;
  return fma(e, kLn2High, fma(e, kLn2Low, fma(f2 * f, p, -0.5f * f2)) + f);
}

FASTVAE_FN float log(float x) {
  bool subnormal = x < 1.17549435e-38f;
  float y = log_normal(subnormal ? x * 8388608.0f : x) - (subnormal ? 15.9423847f : 0.0f);
  y = x > 3.40282347e38f ? x : y;
  y = x == 0.0f ? -INFINITY : y;
  return x >= 0.0f ? y : NAN;
}
FASTVAE_FN double log(double x) { return std::log(x); }

// log(1 + y) for y in [0, 1].
FASTVAE_FN float log1p_unit(float y) {
  return y * polynomial(y, 1.0f, -0.499999017f, 0.333299637f, -0.249541342f, 0.196759388f, -0.153055921f,
                        0.106036544f, -0.0569595285f, 0.0198514592f, -0.00324402470f);  // 4.7e-9
}
FASTVAE_FN double log1p_unit(double y) { return std::log1p(y); }

// log(1 + e^t) = max(t, 0) + log1p(e^-|t|)
template <class T>
FASTVAE_FN T softplus(T t) {
  return max(t, T(0)) + log1p_unit(exp(-abs(t)));
}

template <class T>
FASTVAE_FN T sigmoid(T t) {
  T e = exp(-abs(t));
  return (t < T(0) ? e : T(1)) / (T(1) + e);
}

FASTVAE_FN float sqrt(float x) { return __builtin_sqrtf(x); }
FASTVAE_FN double sqrt(double x) { return __builtin_sqrt(x); }

}  // namespace fastvae::FASTVAE_ISA
