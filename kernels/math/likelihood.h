// log p(x|z): log-likelihoods element by element.
#pragma once

#include "scale.h"

namespace fastvae::FASTVAE_ISA {

// x l - softplus(l): cross-entropy in logits
template <class T>
struct BernoulliLogProb {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T logits, T& log_prob) {
    // max(l, 0) - l x as one product: no difference of two large terms.
    T target = x * c.x_scale;
    T side = logits > T(0) ? T(1) - target : -target;
    T linear = choose(side == T(0), T(0), logits * side);  // 0 for a logit of infinity that agrees with its target
    log_prob = -(linear + log1p_unit(exp_decay(-abs(logits))));
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T logits, T& grad_x, T& grad_logits) {
    grad_x = grad * (logits * c.x_scale);
    // x - sigmoid(l) by the smaller of sigmoid(l) and 1 - sigmoid(l): what is left at a saturated pixel is not rounded
    // off.
    T e = exp_decay(-abs(logits)), smaller = divide_in_range(e, T(1) + e), target = x * c.x_scale;
    grad_logits = grad * (logits > T(0) ? (target - T(1)) + smaller : target - smaller);
  }
};

// -((x - mean)^2 / (2 var) + log std + log(2 pi) / 2), scaled before it is squared
template <class T, class ScaleAs>
struct GaussianLogProb {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T mean, T scale, T& log_prob) {
    Scale<T> s = ScaleAs::read(c, scale);
    T residual = standardized(fma(x, c.x_scale, -mean), s.inv_std);
    // Infinitely far off, the square outgrows the logarithm of a vanishing variance.
    T terms = choose(abs(residual) == T(INFINITY), T(INFINITY), fma(residual, residual, s.log_var));
    log_prob = -(T(0.5) * terms + c.normalized * T(0.91893853320467274178));
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T mean, T scale, T& grad_x, T& grad_mean,
                                  T& grad_scale) {
    Scale<T> s = ScaleAs::read(c, scale);
    T residual = standardized(fma(x, c.x_scale, -mean), s.inv_std);
    grad_mean = grad * standardized(residual, s.inv_std);
    grad_x = -grad_mean * c.x_scale;
    T slope = T(0.5) * fma(residual, residual, T(-1));
    grad_scale = s.flat ? T(0) : grad * (slope * s.d_log_var);
  }
};

// The gradients of a negative total as those of a total whose gradient is `upstream`.
template <class T>
struct Rescale {
  static constexpr int numbers = 1;
  static FASTVAE_FN void value(const Constants<T>&, T upstream, T grad, T& result) { result = grad * -upstream; }
};

}  // namespace fastvae::FASTVAE_ISA
