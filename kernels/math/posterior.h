// q(z|x): samples and KL divergences, element by element.
#pragma once

#include "scale.h"

namespace fastvae::FASTVAE_ISA {

// z = mean + std * eps (Kingma & Welling 2014, eq. 9)
template <class T, class ScaleAs>
struct Rsample {
  static constexpr bool samples = true;
  static FASTVAE_FN void value(const Constants<T>& c, T mean, T scale, T eps, T& z) {
    z = fma(ScaleAs::read(c, scale).std, eps, mean);
  }

  // `grad` and `grad_eps` are sums over the samples of grad_z and grad_z * eps.
  static FASTVAE_FN void gradient(const Constants<T>& c, T scale, T grad, T grad_eps, T& grad_mean, T& grad_scale) {
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
  static FASTVAE_FN void value(const Constants<T>& c, T mean, T scale, T& kl) {
    T value = kl_element(mean, ScaleAs::read(c, scale).kl);
    kl = value <= c.free_bits ? c.free_bits : value;
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T mean, T scale, T& grad_mean, T& grad_scale) {
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
  static FASTVAE_FN void value(const Constants<T>& c, T mean_q, T scale_q, T mean_p, T scale_p, T& kl) {
    Scale<T> q = ScaleAs::read(c, scale_q), p = ScaleAs::read(c, scale_p);
    T value = kl_element((mean_q - mean_p) * p.inv_std, var_ratio<ScaleAs>(q, p).kl);
    kl = value <= c.free_bits ? c.free_bits : value;
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T mean_q, T scale_q, T mean_p, T scale_p,
                                  T& grad_mean_q, T& grad_scale_q, T& grad_mean_p, T& grad_scale_p) {
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
  static constexpr bool samples = true;
  static FASTVAE_FN void value(const Constants<T>& c, T mean, T scale, T eps, T& z, T& kl) {
    Rsample<T, ScaleAs>::value(c, mean, scale, eps, z);
    KlStandardNormal<T, ScaleAs>::value(c, mean, scale, kl);
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad_kl, T mean, T scale, T grad, T grad_eps, T& grad_mean,
                                  T& grad_scale) {
    T mean_of_z, scale_of_z, mean_of_kl, scale_of_kl;
    Rsample<T, ScaleAs>::gradient(c, scale, grad, grad_eps, mean_of_z, scale_of_z);
    KlStandardNormal<T, ScaleAs>::gradient(c, grad_kl, mean, scale, mean_of_kl, scale_of_kl);
    grad_mean = mean_of_z + mean_of_kl;
    grad_scale = scale_of_z + scale_of_kl;
  }
};

}  // namespace fastvae::FASTVAE_ISA
