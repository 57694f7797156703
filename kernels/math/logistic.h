// A logistic distribution's mass on a bin: log(sigmoid(b) - sigmoid(a)), and its slopes.
//
// Of the bin's ends a is the nearer to the mean, and b the farther, both turned so that the mean lies below the bin's
// middle. Then the logarithm is log(1 - e^(a - b)) - softplus(a) - softplus(-b): none is positive, so nothing cancels.
// A bin that is open to one side lacks the terms of its end there.
#pragma once

#include "scale.h"
#include "stirling.h"

namespace fastvae::FASTVAE_ISA {

template <class T>
class LogisticBin {
 public:
  // `residual` is the bin's middle less the mean, `half_bin` half its width. The lowest bin is open below, the highest
  // above.
  FASTVAE_FN LogisticBin(T residual, T log_scale, T half_bin, bool lowest, bool highest) {
    inv_scale_ = exp(-log_scale);
    below_ = residual < T(0);
    distance_ = abs(residual);
    a_ = standardized(distance_ - half_bin, inv_scale_);
    b_ = standardized(distance_ + half_bin, inv_scale_);
    // A width that underflows: its logarithm is known all the same.
    width_ = T(2) * half_bin * max(inv_scale_, kLeastInverse);
    excess_ = min(kMostLogScale - log_scale, T(0));
    closed_ = !(lowest | highest);
    has_near_ = closed_ | (highest != below_);
    has_far_ = closed_ | (highest == below_);
  }

  FASTVAE_FN T log_mass() const {
    Decay<T> e = decay(-width_);
    T within = log1p_normal(-e.exp, max(-e.expm1, T(1.17549435e-38))).log + excess_;
    T near = softplus(a_), far = log1p_unit(exp_decay(-b_));
    return choose(closed_, within, T(0)) - choose(has_near_, near, T(0)) - choose(has_far_, far, T(0));
  }

  // d log_mass / d residual
  FASTVAE_FN T slope_residual() const {
    T of_a = sigmoid(a_), e = exp_decay(-b_), inverse = divide_in_range(T(1), T(1) + e);
    T outwards = of_a * inverse * decay(T(-2) * standardized(distance_, inv_scale_)).expm1;
    T slope = choose(closed_, outwards, choose(has_near_, -of_a, e * inverse));
    return standardized(choose(below_, -slope, slope), inv_scale_);
  }

  FASTVAE_FN T slope_log_scale() const {
    Decay<T> e = decay(-width_);
    T within = scaled(quotient(-e.exp, e.expm1), width_);
    T e_b = exp_decay(-b_);  // b is not negative
    T near = scaled(sigmoid(a_), a_), far = scaled(divide_in_range(e_b, T(1) + e_b), b_);
    return choose(has_near_, near, T(0)) - choose(has_far_, far, T(0)) - choose(closed_, within, T(0));
  }

 private:
  static constexpr T kMostLogScale = T(60), kLeastInverse = T(8.75651076269652e-27);  // e^-60

  T inv_scale_, distance_, a_, b_, width_, excess_;
  bool below_, closed_, has_near_, has_far_;
};

}  // namespace fastvae::FASTVAE_ISA
