// How the second parameter of a Gaussian is read; tables/scale_as.h lists the ways.
#pragma once

#include "constants.h"
#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// What a formula may want of a scale parameter; what it does not use is not computed.
template <class T>
struct Scale {
  T log_var, std, inv_std;
  T var_minus_1, kl;  // var - 1 and var - 1 - log var
  T d_log_var;        // d log_var / d parameter, 0 where the clamp holds
};

template <class T>
FASTVAE_FN T clamp_slope(T value, T lo, T hi, T slope) {
  return (value < lo) | (value > hi) ? T(0) : slope;  // no short circuit: a branch would not vectorise
}

// From s = log std, by e^2s - 1 - 2s = (e^s - 1)^2 + 2 (e^s - 1 - s): one exponential, and no term cancels another.
template <class T>
FASTVAE_FN Scale<T> of_log_std(T s, T d_log_var) {
  Exponentials<T> e = exponentials(s);
  return {s + s, e.exp, exp(-s), e.expm1 * (e.expm1 + T(2)), fma(e.expm1, e.expm1, T(2) * e.expm1_minus_t), d_log_var};
}

// From a variance that was not made from its logarithm: by the series near var = 1, directly elsewhere.
template <class T>
FASTVAE_FN T kl_of_var(T var, T log_var) {
  T near = exponentials(log_var).expm1_minus_t;
  return abs(log_var) < T(0.5) ? near : var - T(1) - log_var;
}

struct LogVar {
  static constexpr bool logarithmic = true;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T log_var = min(max(p, c.clamp_lo), c.clamp_hi);
    return of_log_std(T(0.5) * log_var, clamp_slope(p, c.clamp_lo, c.clamp_hi, T(1)));
  }
};

struct LogStd {
  static constexpr bool logarithmic = true;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T log_std = min(max(p, c.clamp_lo), c.clamp_hi);
    return of_log_std(log_std, clamp_slope(p, c.clamp_lo, c.clamp_hi, T(2)));
  }
};

struct Var {
  static constexpr bool logarithmic = false;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T var = min(max(p, c.clamp_lo), c.clamp_hi);
    T log_var = log(var), std = sqrt(var);
    return {log_var,
            std,
            T(1) / std,
            var - T(1),
            kl_of_var(var, log_var),
            clamp_slope(p, c.clamp_lo, c.clamp_hi, T(1) / var)};
  }
};

template <class T>
FASTVAE_FN Scale<T> of_std(T std, T d_log_var) {
  T log_var = T(2) * log(std);
  return {log_var, std, T(1) / std, (std - T(1)) * (std + T(1)), kl_of_var(std * std, log_var), d_log_var};
}

struct Std {
  static constexpr bool logarithmic = false;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T std = min(max(p, c.clamp_lo), c.clamp_hi);
    return of_std(std, clamp_slope(p, c.clamp_lo, c.clamp_hi, T(2) / std));
  }
};

struct Softplus {
  static constexpr bool logarithmic = false;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T raw = softplus(p) + c.scale_eps;
    T std = min(max(raw, c.clamp_lo), c.clamp_hi);
    return of_std(std, clamp_slope(raw, c.clamp_lo, c.clamp_hi, T(2) * sigmoid(p) / std));
  }
};

}  // namespace fastvae::FASTVAE_ISA
