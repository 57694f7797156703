// log p(x|z) of pixels element by element, beside a Bernoulli's and a Gaussian's.
#pragma once

#include "logistic.h"

namespace fastvae::FASTVAE_ISA {

// -(|x - mean| / scale + log(2 scale))
template <class T>
struct LaplaceLogProb {
  static constexpr bool crowded = true;  // two readings of a scale

  static FASTVAE_FN void value(const Constants<T>& c, T x, T mean, T scale, T& log_prob) {
    Read s(c, scale);
    T distance = standardized(abs(fma(x, c.x_scale, -mean)), s.inverse);
    // Infinitely far off, the distance outgrows the logarithm of a vanishing scale.
    T terms = choose(distance == T(INFINITY), T(INFINITY), distance + s.log);
    log_prob = -(terms + T(0.69314718055994530942));
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T mean, T scale, T& grad_x, T& grad_mean,
                                  T& grad_scale) {
    Read s(c, scale);
    T residual = fma(x, c.x_scale, -mean);
    T sign = choose(residual > T(0), T(1), choose(residual < T(0), T(-1), residual));
    grad_mean = grad * standardized(sign, s.inverse);
    grad_x = -grad_mean * c.x_scale;
    grad_scale = grad * ((standardized(abs(residual), s.inverse) - T(1)) * s.d_log);
  }

 private:
  struct Read {
    T inverse, log, d_log;  // d_log: of the logarithm in the parameter
    FASTVAE_FN Read(const Constants<T>& c, T scale) {
      bool in_logarithms = c.log_scale != T(0);
      T of_scale = quotient(T(1), not_negative(scale));
      inverse = choose(in_logarithms, exp(-scale), of_scale);
      log = choose(in_logarithms, scale, fastvae::FASTVAE_ISA::log(scale));
      d_log = choose(in_logarithms, T(1), of_scale);
    }
  };
};

// x l - log((e^l - 1) / l). With y = |l| it is log(y / (1 - e^-y)) - y (1 - x), or x in place of 1 - x for negative l:
// nothing there is large where the sum is small. Near 0 that logarithm cancels, and a polynomial is taken.
template <class T>
struct ContinuousBernoulliLogProb {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T logits, T& log_prob) {
    T target = x * c.x_scale, y = abs(logits), side = logits > T(0) ? T(1) - target : target;
    T near = fma(logits, target - T(0.5), -(y * y) * log_sinhc_polynomial(y * y));
    T linear = choose(side == T(0), T(0), y * side);  // 0 for a logit of infinity that agrees with its target
    T far = choose(y < T(INFINITY), log_normal(quotient(y, T(1) - exp_decay(-y))), y);
    // An infinite logit outgrows its logarithm.
    log_prob = choose(y < T(1), near, choose(abs(linear) == T(INFINITY), T(0), far) - linear);
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T logits, T& grad_x, T& grad_logits) {
    grad_x = grad * (logits * c.x_scale);
    T target = x * c.x_scale, y = abs(logits), e = exp_decay(-y);
    // The smaller of the mean and what it lacks of 1.
    T smaller = choose(y < T(1), T(0.5) - y * langevin_polynomial(y * y), quotient(T(1), y) - quotient(e, T(1) - e));
    grad_logits = grad * (logits > T(0) ? (target - T(1)) + smaller : target - smaller);
  }
};

// log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)), h half a bin; the outermost bins are open
template <class T>
struct DiscretizedLogisticLogProb {
  static constexpr bool long_winded = true;

  static FASTVAE_FN void value(const Constants<T>& c, T x, T mean, T log_scale, T& log_prob) {
    log_prob = bin_of(c, x, mean, log_scale).log_mass();
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T mean, T log_scale, T& grad_x, T& grad_mean,
                                  T& grad_log_scale) {
    LogisticBin<T> bin = bin_of(c, x, mean, log_scale);
    grad_mean = -grad * bin.slope_residual();
    grad_x = -grad_mean * c.x_scale;
    grad_log_scale = grad * bin.slope_log_scale();
  }

 private:
  static FASTVAE_FN LogisticBin<T> bin_of(const Constants<T>& c, T x, T mean, T log_scale) {
    T target = x * c.x_scale;
    bool lowest = target < c.half_bin;
    bool highest = target > T(1) - c.half_bin;
    return {fma(x, c.x_scale, -mean), log_scale, c.half_bin, lowest, highest};
  }
};

}  // namespace fastvae::FASTVAE_ISA
