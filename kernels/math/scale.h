// How the second parameter of a Gaussian is read; tables/scale_as.h lists the ways.
#pragma once

#include "constants.h"
#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// What a formula may want of a scale parameter; what it does not use is not computed.
template <class T>
struct Scale {
  T log_var, std, inv_std;
  T var_minus_1, kl;   // var - 1 and var - 1 - log var
  T d_log_var, d_std;  // d log_var and d std / d parameter
  bool flat;           // whether d log_var is 0: the clamp holds
};

// `kl_slope_at_infinity` of a way to read that is not logarithmic: the limit of d ((var - 1 - log var) / 2) / d
// parameter.

template <class T>
FASTVAE_FN bool is_outside(T value, T lo, T hi) {
  return (value < lo) | (value > hi);  // no short circuit: a branch would not vectorise
}

// By comparisons: those of bounds that are infinite and known fall away, as a GPU's own minimum and maximum do not.
template <class T>
FASTVAE_FN T clamp(T value, T lo, T hi) {
  value = value < lo ? lo : value;
  return value > hi ? hi : value;
}

template <class T>
FASTVAE_FN T clamp_slope(T value, T lo, T hi, T slope) {
  return is_outside(value, lo, hi) ? T(0) : slope;
}

// From s = log std, by e^2s - 1 - 2s = (e^s - 1)^2 + 2 (e^s - 1 - s): one exponential, and no term cancels another.
template <class T>
FASTVAE_FN Scale<T> of_log_std(T s, T d_log_var, bool flat) {
  Exponentials<T> e = exponentials(s);
  T kl = fma(e.expm1, e.expm1, T(2) * e.expm1_minus_t);
  // A closed clamp is a zero gradient whatever the noise, an infinite std included.
  T d_std = choose(flat, T(0), T(0.5) * d_log_var * e.exp);
  return {s + s, e.exp, exp(-s), e.expm1 * (e.expm1 + T(2)), kl, d_log_var, d_std, flat};
}

// From a variance that was not made from its logarithm: by the series near var = 1, directly elsewhere.
template <class T>
FASTVAE_FN T kl_of_var(T var, T log_var) {
  T near = exponentials(log_var).expm1_minus_t;
  // An infinite variance outgrows its logarithm; that of a finite one is below 1e4.
  return abs(log_var) < T(0.5) ? near : var - T(1) - min(log_var, T(1e4));
}

// NaN below 0, and -0 is 0.
template <class T>
FASTVAE_FN T not_negative(T value) {
  return choose(value < T(0), T(NAN), abs(value));
}

// distance / std: 0 where there is none, though std be 0.
template <class T>
FASTVAE_FN T standardized(T distance, T inv_std) {
  return choose((distance == T(0)) & (inv_std > T(0)), T(0), distance * inv_std);
}

struct LogVar {
  static constexpr bool logarithmic = true;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T log_var = clamp(p, c.clamp_lo, c.clamp_hi);
    return of_log_std(T(0.5) * log_var, T(1), is_outside(p, c.clamp_lo, c.clamp_hi));
  }
};

struct LogStd {
  static constexpr bool logarithmic = true;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T log_std = clamp(p, c.clamp_lo, c.clamp_hi);
    return of_log_std(log_std, T(2), is_outside(p, c.clamp_lo, c.clamp_hi));
  }
};

struct Var {
  static constexpr bool logarithmic = false;
  static constexpr double kl_slope_at_infinity = 0.5;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T var = not_negative(clamp(p, c.clamp_lo, c.clamp_hi));
    T log_var = log(var), std = sqrt(var), d_log_var = clamp_slope(p, c.clamp_lo, c.clamp_hi, T(1) / var);
    return {log_var,
            std,
            T(1) / std,
            var - T(1),
            kl_of_var(var, log_var),
            d_log_var,
            clamp_slope(p, c.clamp_lo, c.clamp_hi, T(0.5) / std),
            d_log_var == T(0)};
  }
};

template <class T>
FASTVAE_FN Scale<T> of_std(T std, T log_std, T d_log_std, T d_std) {
  T log_var = T(2) * log_std;
  T kl = kl_of_var(std * std, log_var);
  return {log_var, std, T(1) / std, (std - T(1)) * (std + T(1)), kl, T(2) * d_log_std, d_std, d_log_std == T(0)};
}

struct Std {
  static constexpr bool logarithmic = false;
  static constexpr double kl_slope_at_infinity = INFINITY;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T std = not_negative(clamp(p, c.clamp_lo, c.clamp_hi));
    return of_std(std, log(std), clamp_slope(p, c.clamp_lo, c.clamp_hi, T(1) / std),
                  clamp_slope(p, c.clamp_lo, c.clamp_hi, choose(std >= T(0), T(1), std)));
  }
};

struct Softplus {
  static constexpr bool logarithmic = false;
  static constexpr double kl_slope_at_infinity = INFINITY;
  template <class T>
  static FASTVAE_FN Scale<T> read(const Constants<T>& c, T p) {
    T raw = softplus(p) + c.scale_eps, slope = sigmoid(p);
    T std = clamp(raw, c.clamp_lo, c.clamp_hi);
    // Where softplus(p) = e^p has underflowed its logarithm is p.
    bool vanished = std == T(0);
    return of_std(std, choose(vanished, p, log(std)),
                  clamp_slope(raw, c.clamp_lo, c.clamp_hi, choose(vanished, T(1), slope / std)),
                  clamp_slope(raw, c.clamp_lo, c.clamp_hi, slope));
  }
};

}  // namespace fastvae::FASTVAE_ISA
