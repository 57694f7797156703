// q(z|x): samples and KL divergences, element by element.
#pragma once

#include "scale.h"

namespace fastvae::FASTVAE_ISA {

// z = mean + std * eps (Kingma & Welling 2014, eq. 9)
template <class T, class ScaleAs>
struct Rsample {
  static constexpr bool samples = true;
  static FASTVAE_FN void value(const Constants<T>& c, T mean, T scale, T eps, T& z) {
    T std = ScaleAs::read(c, scale).std;
    std = choose((eps == T(0)) & (std == T(INFINITY)), T(0), std);  // no noise, though std be infinite
    z = fma(std, eps, mean);
  }

  // `grad` and `grad_eps` are sums over the samples of grad_z and grad_z * eps.
  static FASTVAE_FN void gradient(const Constants<T>& c, T scale, T grad, T grad_eps, T& grad_mean, T& grad_scale) {
    grad_mean = grad;
    grad_scale = scaled(grad_eps, ScaleAs::read(c, scale).d_std);
  }
};

// (mean^2 + var - 1 - log var) / 2 (Kingma & Welling 2014, appendix B)
template <class T>
FASTVAE_FN T kl_element(T mean, T kl_of_scale) {
  return T(0.5) * fma(mean, mean, kl_of_scale);
}

// d ((ratio - 1 - log ratio) / 2) / d parameter of q, ratio = var_q / var_p.
template <class ScaleAs, class T>
FASTVAE_FN T kl_slope(const Scale<T>& q, T ratio_minus_1, T inv_std_p) {
  T slope = choose(q.flat, T(0), T(0.5) * ratio_minus_1 * q.d_log_var);
  if constexpr (ScaleAs::logarithmic) return slope;
  else return choose(q.std == T(INFINITY), T(ScaleAs::kl_slope_at_infinity) * inv_std_p * inv_std_p, slope);
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
    grad_mean = choose(floored, T(0), scaled(grad, mean));
    grad_scale = choose(floored, T(0), scaled(grad, kl_slope<ScaleAs>(s, s.var_minus_1, T(1))));
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
  static constexpr bool crowded = true;  // two scales
  static FASTVAE_FN void value(const Constants<T>& c, T mean_q, T scale_q, T mean_p, T scale_p, T& kl) {
    Scale<T> q = ScaleAs::read(c, scale_q), p = ScaleAs::read(c, scale_p);
    T value = kl_element(standardized(mean_q - mean_p, p.inv_std), var_ratio<ScaleAs>(q, p).kl);
    kl = value <= c.free_bits ? c.free_bits : value;
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T mean_q, T scale_q, T mean_p, T scale_p,
                                  T& grad_mean_q, T& grad_scale_q, T& grad_mean_p, T& grad_scale_p) {
    Scale<T> q = ScaleAs::read(c, scale_q), p = ScaleAs::read(c, scale_p);
    T distance = standardized(mean_q - mean_p, p.inv_std);
    Ratio<T> ratio = var_ratio<ScaleAs>(q, p);
    bool floored = (c.free_bits > T(0)) & (kl_element(distance, ratio.kl) <= c.free_bits);
    T mean = choose(floored, T(0), scaled(grad, standardized(distance, p.inv_std)));
    T slope_p = T(-0.5) * fma(distance, distance, ratio.minus_1) * p.d_log_var;
    grad_mean_q = mean;
    grad_mean_p = -mean;
    grad_scale_q = choose(floored, T(0), scaled(grad, kl_slope<ScaleAs>(q, ratio.minus_1, p.inv_std)));
    grad_scale_p = choose(floored | p.flat, T(0), scaled(grad, slope_p));
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
    // Of two infinities the KL's is the larger: it goes as a variance does, the sample's as a standard deviation.
    bool larger = (abs(scale_of_kl) == T(INFINITY)) & (scale_of_z == scale_of_z);
    grad_scale = scale_of_kl + choose(larger, T(0), scale_of_z);
  }
};

}  // namespace fastvae::FASTVAE_ISA
