// Elementary functions: branch-free polynomials in float, so that loops over them vectorise; libm in double.
//
// NaN and infinity come through as IEEE 754 has them.
#pragma once

#include <type_traits>

#include "platform.h"
#include "polynomials.h"

namespace fastvae::FASTVAE_ISA {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2High = 0.693145752f;  // 16 bits: n * kLn2High is exact
constexpr float kLn2Low = 1.42860677e-06f;
constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer

// NaN in `a` comes through. GCC makes one instruction of these forms, and not of their mirror images.
template <class T>
FASTVAE_FN T min(T a, T b) {
  return a > b ? b : a;
}
template <class T>
FASTVAE_FN T max(T a, T b) {
  return a < b ? b : a;
}

#if defined(__CUDA_ARCH__)
FASTVAE_FN float min(float a, float b) {
  float least;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(a), "f"(b));
  return least;
}
FASTVAE_FN float max(float a, float b) {
  float most;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
  return most;
}
#endif

// condition ? a : b, on the host by bits: what GCC knows of a constant that was chosen it makes branches of.
template <class T>
FASTVAE_FN T choose(bool condition, T a, T b) {
#if defined(__CUDA_ARCH__)
  return condition ? a : b;
#else
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  Bits mask = -Bits(condition);
  return bit_cast<T>((bit_cast<Bits>(a) & mask) | (bit_cast<Bits>(b) & ~mask));
#endif
}

// factor x, 0 for a factor of 0 though x be infinite; NaN comes through.
template <class T>
FASTVAE_FN T scaled(T factor, T x) {
  return choose((factor == T(0)) & (x == x), T(0), factor * x);
}

// sum += value; `lost` is what rounding has added too much so far (Kahan 1965). Infinities have lost nothing.
template <class T>
FASTVAE_FN void add_compensated(T value, T& sum, T& lost) {
  T rest = value - lost, next = sum + rest, error = (next - sum) - rest;
  lost = choose(error == error, error, T(0));
  sum = next;
}

#if defined(__CUDA_ARCH__)
FASTVAE_FN float abs(float x) { return ::fabsf(x); }
FASTVAE_FN double abs(double x) { return ::fabs(x); }
FASTVAE_FN float sqrt(float x) { return ::sqrtf(x); }
FASTVAE_FN double sqrt(double x) { return ::sqrt(x); }
#else
FASTVAE_FN float abs(float x) { return __builtin_fabsf(x); }
FASTVAE_FN double abs(double x) { return __builtin_fabs(x); }
FASTVAE_FN float sqrt(float x) { return __builtin_sqrtf(x); }
FASTVAE_FN double sqrt(double x) { return __builtin_sqrt(x); }
#endif

// Of positive normal x or 0, by a GPU's own instructions: the root within an ulp, where its exact form takes a branch
// and eight instructions.
FASTVAE_FN float fast_sqrt(float x) {
#if defined(__CUDA_ARCH__)
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#else
  return sqrt(x);
#endif
}

FASTVAE_FN double fast_sqrt(double x) { return sqrt(x); }

FASTVAE_FN float fast_log2(float x) {
#if defined(__CUDA_ARCH__)
  float log;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log) : "f"(x));
  return log;
#else
  return std::log2(x);
#endif
}

// a / b, on a GPU within 2 ulp: the exact form takes a branch and a call for some divisors. There b that is subnormal
// counts as 0, and one above 2^126 as infinite.
FASTVAE_FN float quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
  return a * reciprocal;
#else
  return a / b;
#endif
}
FASTVAE_FN double quotient(double a, double b) { return a / b; }

// a / b for b in [1, 2]: the same and one step of Newton's, within an ulp.
FASTVAE_FN float divide_in_range(float a, float b) {
#if defined(__CUDA_ARCH__)
  float reciprocal = quotient(1.0f, b), approximate = a * reciprocal;
  return fma(fma(-approximate, b, a), reciprocal, approximate);
#else
  return a / b;
#endif
}
FASTVAE_FN double divide_in_range(double a, double b) { return a / b; }

FASTVAE_FN float power_of_two(int32_t n) { return bit_cast<float>((n + 127) << 23); }

// Bounds of t, beyond which e^t is as good as infinite, or 0. A GPU does without subnormal results: half the work.
#if defined(FASTVAE_GPU)
constexpr float kLeastExponent = -87.0f;
#else
constexpr float kLeastExponent = -105.0f;
#endif
constexpr float kMostExponent = 89.0f;

// 2^n / 2, since 2^128 is no float; so small below n = -100 that e^t - 1 is -1, on a GPU 0 for n = -126.
FASTVAE_FN float half_of_power(int32_t n) {
#if defined(FASTVAE_GPU)
  return bit_cast<float>((n << 23) + (126 << 23));
#else
  return power_of_two(max(n, -100) - 1);
#endif
}

// (1 + e) 2^n in two factors: 2^128 and the subnormals are out of one factor's range.
FASTVAE_FN float one_plus_by_power(float e, int32_t n) {
#if defined(FASTVAE_GPU)
  return fma(e, 2.0f, 2.0f) * half_of_power(n);
#else
  int32_t half = n >> 1;
  return (1.0f + e) * power_of_two(half) * power_of_two(n - half);
#endif
}

// t = n ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 = r + r^2 c to full relative accuracy.
struct Reduced {
  float n, r, c;
  int32_t power;
  FASTVAE_FN float expm1() const { return fma(r * r, c, r); }
};

FASTVAE_FN Reduced reduce(float t) {
  float shifted = fma(t, kLog2E, kRoundMagic);
  float n = shifted - kRoundMagic;
  float r = fma(n, -kLn2Low, fma(n, -kLn2High, t));
  float c = exp_polynomial(r);
  return {n, r, c, bit_cast<int32_t>(shifted) - bit_cast<int32_t>(kRoundMagic)};
}

// e^t, e^t - 1 and e^t - 1 - t. The last keeps full relative accuracy where n = 0 and loses 2 bits at most beyond.
template <class T>
struct Exponentials {
  T exp, expm1, expm1_minus_t;
};

FASTVAE_FN Exponentials<float> exponentials(float t) {
  float below_overflow = min(t, kMostExponent);
  Reduced e = reduce(max(below_overflow, kLeastExponent));
  float expm1_r = e.expm1();
  float half = half_of_power(e.power);
  float expm1 = 2.0f * fma(half, expm1_r, half - 0.5f);
  return {one_plus_by_power(expm1_r, e.power), expm1, e.n == 0.0f ? e.r * e.r * e.c : expm1 - below_overflow};
}

FASTVAE_FN Exponentials<double> exponentials(double t) {
  double expm1 = std::expm1(t);
  double term = t * t / 2, series = 0;
  for (int k = 3; k < 20; ++k) {  // 0.5^18 / 20! is below 2^-52 of the sum
    series += term;
    term *= t / k;
  }
  return {std::exp(t), expm1, std::fabs(t) < 0.5 ? series : expm1 - min(t, 710.0)};
}

FASTVAE_FN float exp(float t) {
  Reduced e = reduce(max(min(t, kMostExponent), kLeastExponent));
  return one_plus_by_power(e.expm1(), e.power);
}
FASTVAE_FN double exp(double t) { return std::exp(t); }

FASTVAE_FN float scaled_decay(const Reduced& e) {
#if defined(FASTVAE_GPU)
  return one_plus_by_power(e.expm1(), e.power);
#else
  return (1.0f + e.expm1()) * power_of_two(e.power + 64) * 0x1p-64f;
#endif
}

// e^t for t <= 0.
FASTVAE_FN float exp_decay(float t) { return scaled_decay(reduce(max(t, kLeastExponent))); }
FASTVAE_FN double exp_decay(double t) { return std::exp(t); }

// e^t and e^t - 1 for t <= 0.
template <class T>
struct Decay {
  T exp, expm1;
};

FASTVAE_FN Decay<float> decay(float t) {
  Reduced e = reduce(max(t, kLeastExponent));
  float power = power_of_two(max(e.power, -100));
  return {scaled_decay(e), fma(power, e.expm1(), power - 1.0f)};
}
FASTVAE_FN Decay<double> decay(double t) { return {std::exp(t), std::expm1(t)}; }

// log for positive normal x only.
FASTVAE_FN float log_normal(float x) {
  int32_t bits = bit_cast<int32_t>(x) - 0x3f3504f3;  // of sqrt(1/2): the mantissa m lands in [sqrt(1/2), sqrt(2))
  float e = static_cast<float>(bits >> 23);
  float f = bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  float p = log_polynomial(f);
  float f2 = f * f;
  return fma(e, kLn2High, fma(e, kLn2Low, fma(f2 * f, p, -0.5f * f2)) + f);
}
FASTVAE_FN double log_normal(double x) { return std::log(x); }

FASTVAE_FN float log(float x) {
  bool subnormal = x < 1.17549435e-38f;
  float y = log_normal(subnormal ? x * 8388608.0f : x) - (subnormal ? 15.9423847f : 0.0f);
  y = x > 3.40282347e38f ? x : y;
  y = x == 0.0f ? -INFINITY : y;
  return x >= 0.0f ? y : NAN;
}
FASTVAE_FN double log(double x) { return std::log(x); }

// log(1 + y) for y in [0, 1].
FASTVAE_FN float log1p_unit(float y) { return y * log1p_polynomial(y); }
FASTVAE_FN double log1p_unit(double y) { return std::log1p(y); }

// log(1 + e^t) = max(t, 0) + log1p(e^-|t|)
template <class T>
FASTVAE_FN T softplus(T t) {
  return max(t, T(0)) + log1p_unit(exp_decay(-abs(t)));
}

template <class T>
FASTVAE_FN T sigmoid(T t) {
  T e = exp_decay(-abs(t));
  return divide_in_range(t < T(0) ? e : T(1), T(1) + e);
}

}  // namespace fastvae::FASTVAE_ISA
