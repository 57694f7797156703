// q(z|x): how the second parameter is read, samples, and KL divergences, element by element.
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

// z = mean + std * eps (Kingma & Welling 2014, eq. 9)
template <class T, class ScaleAs>
struct Rsample {
  static constexpr int inputs = 3, outputs = 1;
  static constexpr unsigned tensor_inputs = 0b11;
  static FASTVAE_FN void at(const Constants<T>& c, T mean, T scale, T eps, T& z) {
    z = fma(ScaleAs::read(c, scale).std, eps, mean);
  }
};

// `grad` and `grad_eps` are sums over the samples of grad_z and grad_z * eps.
template <class T, class ScaleAs>
struct RsampleBackward {
  static constexpr int inputs = 3, outputs = 2;
  static constexpr unsigned tensor_inputs = 0b1;
  static FASTVAE_FN void at(const Constants<T>& c, T scale, T grad, T grad_eps, T& grad_mean, T& grad_scale) {
    Scale<T> s = ScaleAs::read(c, scale);
    grad_mean = grad;
    // A closed clamp is a zero gradient whatever the noise, an infinite std included.
    grad_scale = s.d_log_var == T(0) ? T(0) : grad_eps * (T(0.5) * s.std * s.d_log_var);
  }
};

// (mean^2 + var - 1 - log var) / 2 (Kingma & Welling 2014, appendix B)
template <class T>
FASTVAE_FN T kl_element(T mean, T kl_of_scale) {
  return T(0.5) * fma(mean, mean, kl_of_scale);
}

template <class T, class ScaleAs>
struct KlStandardNormal {
  static constexpr int inputs = 2, outputs = 1;
  static constexpr unsigned tensor_inputs = 0b11;
  static FASTVAE_FN void at(const Constants<T>& c, T mean, T scale, T& kl) {
    T value = kl_element(mean, ScaleAs::read(c, scale).kl);
    kl = value <= c.free_bits ? c.free_bits : value;
  }
};

template <class T, class ScaleAs>
struct KlStandardNormalBackward {
  static constexpr int inputs = 3, outputs = 2;
  static constexpr unsigned tensor_inputs = 0b110;
  static FASTVAE_FN void at(const Constants<T>& c, T grad, T mean, T scale, T& grad_mean, T& grad_scale) {
    Scale<T> s = ScaleAs::read(c, scale);
    bool floored = (c.free_bits > T(0)) & (kl_element(mean, s.kl) <= c.free_bits);
    T slope = T(0.5) * s.var_minus_1 * s.d_log_var;
    grad_mean = floored ? T(0) : grad * mean;
    grad_scale = floored | (s.d_log_var == T(0)) ? T(0) : grad * slope;
  }
};

// What a KL between two Gaussians takes of var_q / var_p.
template <class T>
struct Ratio {
  T minus_1, kl;  // ratio - 1 and ratio - 1 - log ratio
};

// Logarithms are subtracted, other parameters divided: their logarithms would cancel.
template <class ScaleAs, class T>
FASTVAE_FN Ratio<T> var_ratio(const Scale<T>& q, const Scale<T>& p) {
  if constexpr (ScaleAs::logarithmic) {
    Exponentials<T> e = exponentials(q.log_var - p.log_var);
    return {e.expm1, e.expm1_minus_t};
  } else {
    T ratio = q.std / p.std;
    bool in_range = (ratio > T(1e-37)) & (ratio < T(1e37));
    T log_ratio = in_range ? T(2) * log(ratio) : q.log_var - p.log_var;
    return {(ratio - T(1)) * (ratio + T(1)), kl_of_var(ratio * ratio, log_ratio)};
  }
}

// (((mean_q - mean_p) / std_p)^2 + e^d - 1 - d) / 2, d = log var_q - log var_p
template <class T, class ScaleAs>
struct KlNormal {
  static constexpr int inputs = 4, outputs = 1;
  static constexpr unsigned tensor_inputs = 0b1111;
  static FASTVAE_FN void at(const Constants<T>& c, T mean_q, T scale_q, T mean_p, T scale_p, T& kl) {
    Scale<T> q = ScaleAs::read(c, scale_q), p = ScaleAs::read(c, scale_p);
    T value = kl_element((mean_q - mean_p) * p.inv_std, var_ratio<ScaleAs>(q, p).kl);
    kl = value <= c.free_bits ? c.free_bits : value;
  }
};

template <class T, class ScaleAs>
struct KlNormalBackward {
  static constexpr int inputs = 5, outputs = 4;
  static constexpr unsigned tensor_inputs = 0b11110;
  static FASTVAE_FN void at(const Constants<T>& c, T grad, T mean_q, T scale_q, T mean_p, T scale_p, T& grad_mean_q,
                            T& grad_scale_q, T& grad_mean_p, T& grad_scale_p) {
    Scale<T> q = ScaleAs::read(c, scale_q), p = ScaleAs::read(c, scale_p);
    T distance = (mean_q - mean_p) * p.inv_std;
    Ratio<T> ratio = var_ratio<ScaleAs>(q, p);
    bool floored = (c.free_bits > T(0)) & (kl_element(distance, ratio.kl) <= c.free_bits);
    T mean = floored ? T(0) : grad * (distance * p.inv_std);
    T slope_q = T(0.5) * ratio.minus_1;
    T slope_p = T(-0.5) * fma(distance, distance, ratio.minus_1);
    grad_mean_q = mean;
    grad_mean_p = -mean;
    grad_scale_q = floored | (q.d_log_var == T(0)) ? T(0) : grad * (slope_q * q.d_log_var);
    grad_scale_p = floored | (p.d_log_var == T(0)) ? T(0) : grad * (slope_p * p.d_log_var);
  }
};

template <class T, class ScaleAs>
struct RsampleKl {
  static constexpr int inputs = 3, outputs = 2;
  static constexpr unsigned tensor_inputs = 0b11;
  static FASTVAE_FN void at(const Constants<T>& c, T mean, T scale, T eps, T& z, T& kl) {
    Rsample<T, ScaleAs>::at(c, mean, scale, eps, z);
    KlStandardNormal<T, ScaleAs>::at(c, mean, scale, kl);
  }
};

template <class T, class ScaleAs>
struct RsampleKlBackward {
  static constexpr int inputs = 5, outputs = 2;
  static constexpr unsigned tensor_inputs = 0b110;
  static FASTVAE_FN void at(const Constants<T>& c, T grad_kl, T mean, T scale, T grad, T grad_eps, T& grad_mean,
                            T& grad_scale) {
    T mean_of_z, scale_of_z, mean_of_kl, scale_of_kl;
    RsampleBackward<T, ScaleAs>::at(c, scale, grad, grad_eps, mean_of_z, scale_of_z);
    KlStandardNormalBackward<T, ScaleAs>::at(c, grad_kl, mean, scale, mean_of_kl, scale_of_kl);
    grad_mean = mean_of_z + mean_of_kl;
    grad_scale = scale_of_z + scale_of_kl;
  }
};

}  // namespace fastvae::FASTVAE_ISA
