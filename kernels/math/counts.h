// log p(x|z) of counts, element by element.
//
// lgamma(x + theta) - lgamma(theta) - lgamma(x + 1) is large where x or theta is, and cancels with what it is added to.
// So here it is Loader's deviances (Loader 2000, "Fast and accurate computation of binomial probabilities"), none of
// which is negative, and the rests of Stirling's series. Small arguments of lgamma are first shifted up by kShift.
#pragma once

#include "scale.h"
#include "stirling.h"

namespace fastvae::FASTVAE_ISA {

template <class T>
constexpr T kHalfLog2Pi = T(0.91893853320467274178);

// What is larger counts as this: products of three stay finite, and to a Poisson's mean the difference is rounded off.
template <class T>
constexpr T kMostCounted = T(1e15);
template <>
constexpr double kMostCounted<double> = 1e100;

// A dispersion is at least this share of the whole: 0 times its logarithm must be 0.
template <class T>
constexpr T kLeastShare = T(1.17549435e-38);

// By how much an argument is shifted.
template <class T>
FASTVAE_FN T shift_of(T argument) {
  return argument < T(kShift<T>) ? T(kShift<T>) : T(0);
}

// x of lgamma(x + 1) = (value - 1/2) log(value) - value + log(2 pi) / 2 + stirling(inverse) - log(product value^by).
template <class T>
struct Count {
  T by, value, inverse;

  FASTVAE_FN T product(T x) const {
    T result = inverse, whole = by;
    for (int i = 1; i < kShift<T>; ++i) result *= choose(whole > T(0), (x + T(i)) * inverse, T(1));
    return result;
  }

  // digamma(x + 1) - log(value)
  FASTVAE_FN T slope(T x) const {
    T sum = 0;
    for (int i = 1; i < kShift<T>; ++i) sum += quotient(T(1), x + T(i));
    return T(-0.5) * inverse - digamma_rest(inverse) - choose(by > T(0), sum, -inverse);
  }
};

// r^x e^-r / x!
template <class T>
struct PoissonLogProb {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T rate, T& log_prob) {
    T mean = choose(c.log_rate != T(0), exp(rate), not_negative(rate));
    Count<T> k = count_of(x);
    T log_value = -log(k.inverse), t = (mean - k.value) * k.inverse, q = mean * k.inverse;
    // Of a rate that has underflowed the logarithm is known all the same.
    bool lost = (c.log_rate != T(0)) & (q < T(1e-30));
    T rest = choose(lost, t - (rate - log_value), log1p_of(t, q).rest);
    T positive = log(k.product(x)) + T(0.5) * log_value - kHalfLog2Pi<T> - stirling(k.inverse);
    positive -= fma(k.by, t, x * rest);
    log_prob = choose(x == T(0), -mean, choose(mean == T(INFINITY), -mean, positive));
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T rate, T& grad_x, T& grad_rate) {
    T mean = choose(c.log_rate != T(0), exp(rate), not_negative(rate));
    Count<T> k = count_of(x);
    T log_ratio = choose(c.log_rate != T(0), rate + log(k.inverse), log(mean * k.inverse));
    grad_x = grad * (log_ratio - k.slope(x));
    T relative = choose(x == T(0), T(-1), quotient(x - mean, mean));
    grad_rate = grad * choose(c.log_rate != T(0), x - mean, relative);
  }

 private:
  static FASTVAE_FN Count<T> count_of(T x) {
    T by = shift_of(x), value = x + by;
    return {by, value, quotient(T(1), value)};
  }
};

// x log rate - rate
template <class T>
struct UnnormalizedPoissonLogProb {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T rate, T& log_prob) {
    Rate r(c, rate);
    log_prob = choose(r.mean == T(INFINITY), -r.mean, scaled(x, r.log_mean) - r.mean);
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T rate, T& grad_x, T& grad_rate) {
    Rate r(c, rate);
    grad_x = grad * r.log_mean;
    T relative = choose(x == T(0), T(-1), quotient(x - r.mean, r.mean));
    grad_rate = grad * choose(c.log_rate != T(0), x - r.mean, relative);
  }

 private:
  struct Rate {
    T mean, log_mean;
    FASTVAE_FN Rate(const Constants<T>& c, T rate) {
      bool in_logarithms = c.log_rate != T(0);
      mean = choose(in_logarithms, exp(rate), not_negative(rate));
      log_mean = choose(in_logarithms, rate, log(rate));
    }
  };
};

// A negative binomial's parameters as they are read.
template <class T>
struct NegativeBinomialParameters {
  T mean, theta, m;  // m = mean + theta
  bool boundless;    // the mean

  FASTVAE_FN NegativeBinomialParameters(const Constants<T>& c, T mean_, T dispersion) {
    T given = choose(c.log_dispersion != T(0), exp(dispersion), dispersion);
    T by_itself = choose(c.log_mean != T(0), exp(mean_), mean_);
    theta = min(not_negative(given), kMostCounted<T>);
    T whole = not_negative(choose(c.odds != T(0), given * by_itself, by_itself));
    boundless = whole == T(INFINITY);
    mean = min(whole, kMostCounted<T>);
    m = theta + mean + T(1e-35);
  }
};

// What a negative binomial's value and gradients are made of at x = 0.
template <class T>
struct NegativeBinomialZero : NegativeBinomialParameters<T> {
  using Parameters = NegativeBinomialParameters<T>;
  using Parameters::boundless, Parameters::m, Parameters::mean, Parameters::theta;
  T inverse_m;
  Log1p<T> of_second;

  FASTVAE_FN NegativeBinomialZero(const Constants<T>& c, T mean_, T dispersion) : Parameters(c, mean_, dispersion) {
    inverse_m = quotient(T(1), m);
    of_second = log1p_normal(-mean * inverse_m, max(theta * inverse_m, kLeastShare<T>));
  }

  FASTVAE_FN T log_prob() const { return choose(boundless, -T(INFINITY), theta * of_second.log); }

  FASTVAE_FN T slope_mean(const Constants<T>& c) const {
    return theta * inverse_m * choose(c.log_mean != T(0), -mean, T(-1));
  }

  FASTVAE_FN T slope_dispersion(const Constants<T>& c) const {
    T slope = choose(c.odds != T(0), of_second.log, -of_second.rest);
    return choose(c.log_dispersion != T(0), theta * slope, slope);
  }
};

// The same of any x, to the same bits at x = 0; for less where x is known not to be 0. n = x + theta.
template <class T, bool not_zero = false>
struct NegativeBinomialTerms : NegativeBinomialParameters<T> {
  using Parameters = NegativeBinomialParameters<T>;
  using Parameters::boundless, Parameters::m, Parameters::mean, Parameters::theta;
  T x;
  Count<T> count;
  T by, n, value_n, inverse_n, inverse_theta, inverse_m;  // n and theta are shifted by the same
  T first, second;                                        // the deviances' arguments
  Log1p<T> of_first, of_second;

  FASTVAE_FN NegativeBinomialTerms(const Constants<T>& c, T x_, T mean_, T dispersion)
      : Parameters(c, mean_, dispersion), x(x_) {
    by = shift_of(theta);
    n = x + theta;
    value_n = n + by;
    T value_theta = theta + by;
    T inverse = quotient(T(1), value_n * value_theta);
    inverse_n = value_theta * inverse;
    inverse_theta = value_n * inverse;
    count.by = shift_of(x);
    count.value = x + count.by;
    T inverse_x_m = quotient(T(1), count.value * m);
    count.inverse = m * inverse_x_m;
    inverse_m = count.value * inverse_x_m;
    T shifted_mean = (by - count.by) * mean;
    first = fma(theta, (mean - x) - count.by, shifted_mean) * inverse_x_m;
    second = fma(theta, x - mean, -by * mean) * (inverse_theta * inverse_m);
    T share = (value_n * inverse_m) * (theta * inverse_theta);
    of_first = log1p_of(first, value_n * (mean * inverse_x_m));
    of_second = log1p_normal(choose(is_zero(), -mean * inverse_m, second),
                             max(choose(is_zero(), theta * inverse_m, share), kLeastShare<T>));
  }

  FASTVAE_FN bool is_zero() const { return !not_zero & (x == T(0)); }

  FASTVAE_FN T log_prob() const {
    T deviances = fma(x, of_first.rest, theta * of_second.rest) + fma(count.by, first, by * second);
    T rests = stirling(inverse_n) - stirling(inverse_theta) - stirling(count.inverse);
    T root = fast_sqrt((theta + by) * inverse_n * count.value);
    T positive = log(rising_ratio() * count.product(x) * root) - (deviances + kHalfLog2Pi<T>)+rests;
    return choose(boundless, -T(INFINITY), choose(is_zero(), log_prob_of_0(), positive));
  }

  FASTVAE_FN T log_prob_of_0() const { return choose(boundless, -T(INFINITY), theta * of_second.log); }

  // digamma(n) - digamma(x + 1) + log(mean / m). Here n is shifted by its own size.
  FASTVAE_FN T slope_x() const {
    T own = shift_of(n), value = n + own, inverse = quotient(T(1), value), inverse_x_m = count.inverse * inverse_m,
      sum = 0;
    for (int i = 0; i < kShift<T>; ++i) sum += quotient(T(1), n + T(i));
    T digamma_n = T(-0.5) * inverse - digamma_rest(inverse) - choose(own > T(0), sum, T(0));
    T argument = fma(theta, (mean - x) - count.by, (own - count.by) * mean) * inverse_x_m;
    return log1p_of(argument, value * (mean * inverse_x_m)).log + (digamma_n - count.slope(x));
  }

  FASTVAE_FN T slope_mean(const Constants<T>& c) const {
    T relative = choose(is_zero(), T(-1), quotient(x - mean, mean));
    return theta * inverse_m * choose(c.log_mean != T(0), x - mean, relative);
  }

  FASTVAE_FN T slope_dispersion(const Constants<T>& c) const {
    T sum = 0;
    for (int i = 0; i < kShift<T>; ++i) sum += quotient(x, (theta + T(i)) * (n + T(i)));
    T difference = T(0.5) * x * inverse_theta * inverse_n + (digamma_rest(inverse_theta) - digamma_rest(inverse_n));
    difference += choose((by > T(0)) & (n > T(0)) & !is_zero(), sum, T(0));
    T at_mean = -of_second.rest - by * x * (inverse_theta * inverse_m);
    T slope = choose(c.odds != T(0), of_second.log, at_mean) + difference;
    return choose(c.log_dispersion != T(0), theta * slope, slope);
  }

 private:
  // Of theta (theta + 1) ... (theta + by - 1) and the same of n, each over its shifted argument's power.
  FASTVAE_FN T rising_ratio() const {
    T of_theta = 1, of_n = 1;
    for (int i = 0; i < kShift<T>; ++i) of_theta *= (theta + T(i)) * inverse_theta, of_n *= (n + T(i)) * inverse_n;
    return choose(by > T(0), quotient(of_theta, of_n), T(1));
  }
};

template <class T>
struct NegativeBinomialLogProbAtZero {
  static FASTVAE_FN void value(const Constants<T>& c, T, T mean, T dispersion, T& log_prob) {
    log_prob = NegativeBinomialZero<T>(c, mean, dispersion).log_prob();
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T, T mean, T dispersion, T& grad_x, T& grad_mean,
                                  T& grad_dispersion) {
    NegativeBinomialZero<T> terms(c, mean, dispersion);
    grad_x = grad * NegativeBinomialTerms<T>(c, T(0), mean, dispersion).slope_x();
    grad_mean = grad * terms.slope_mean(c);
    grad_dispersion = grad * terms.slope_dispersion(c);
  }
};

// Gamma(x + theta) / (Gamma(theta) x!) (theta / (theta + mean))^theta (mean / (theta + mean))^x
template <class T, bool not_zero>
struct NegativeBinomialLogProbOf {
  static FASTVAE_FN void value(const Constants<T>& c, T x, T mean, T dispersion, T& log_prob) {
    log_prob = NegativeBinomialTerms<T, not_zero>(c, x, mean, dispersion).log_prob();
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T mean, T dispersion, T& grad_x, T& grad_mean,
                                  T& grad_dispersion) {
    NegativeBinomialTerms<T, not_zero> terms(c, x, mean, dispersion);
    grad_x = grad * terms.slope_x();
    grad_mean = grad * terms.slope_mean(c);
    grad_dispersion = grad * terms.slope_dispersion(c);
  }
};

template <class T>
struct NegativeBinomialLogProb : NegativeBinomialLogProbOf<T, false> {
  static constexpr bool long_winded = true;
  using AtZero = NegativeBinomialLogProbAtZero<T>;
  using NotZero = NegativeBinomialLogProbOf<T, true>;
};

// How much of a zero is the excess of zeros, and how much the counts': logits a, log-probability b of the counts' zero.
template <class T>
struct Zero {
  T log_prob;                  // log(sigmoid(a) + sigmoid(-a) e^b)
  T of_counts;                 // e^b / (e^a + e^b)
  T slope_logits;              // d log_prob / d a
  T log_others, slope_others;  // log(sigmoid(-a)), and its derivative

  FASTVAE_FN Zero(T a, T b) {
    // Where both are far below 0 they are taken relative to the larger.
    T shift = min(max(a, b), T(-64)) + T(64), e = exp_decay(-abs(a) - shift);
    Decay<T> of_b = decay(b - shift);
    bool inflated = a >= T(0);
    T excess = choose(inflated, T(1), e), counts = of_b.exp * choose(inflated, e, T(1));  // e^a : e^b
    T inverse = quotient(T(1), (T(1) + e) * (excess + counts)), of_all = inverse * (T(1) + e);
    T tail = inverse * (excess + counts), others = choose(inflated, e, T(1)) * tail;  // sigmoid(-a)
    of_counts = counts * of_all;
    // (e^a + e^b) / (e^a + 1) less 1, where that is small.
    T change = of_b.expm1 * others;
    log_prob = log1p_normal(change, choose(change > T(-0.5), change + T(1), (excess + counts) * tail)).log + shift;
    slope_logits = -change * (excess * of_all);
    log_others = -(max(a, T(0)) + log1p_unit(e));
    slope_others = -excess * tail;
  }
};

template <class T>
struct ZeroInflatedNegativeBinomialLogProbAtZero {
  static constexpr bool serial = true;
  static FASTVAE_FN void value(const Constants<T>& c, T, T mean, T dispersion, T zero_logits, T& log_prob) {
    log_prob = Zero<T>(zero_logits, NegativeBinomialZero<T>(c, mean, dispersion).log_prob()).log_prob;
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T, T mean, T dispersion, T zero_logits, T& grad_mean,
                                  T& grad_dispersion, T& grad_zero_logits) {
    NegativeBinomialZero<T> terms(c, mean, dispersion);
    Zero<T> zero(zero_logits, terms.log_prob());
    grad_mean = grad * (zero.of_counts * terms.slope_mean(c));
    grad_dispersion = grad * (zero.of_counts * terms.slope_dispersion(c));
    grad_zero_logits = grad * zero.slope_logits;
  }
};

// A negative binomial with an excess of zeros: sigmoid(zero_logits) of the mass stands at 0.
template <class T, bool not_zero>
struct ZeroInflatedNegativeBinomialLogProbOf {
  using Terms = NegativeBinomialTerms<T, not_zero>;

  static FASTVAE_FN void value(const Constants<T>& c, T x, T mean, T dispersion, T zero_logits, T& log_prob) {
    Terms terms(c, x, mean, dispersion);
    Zero<T> zero = zero_of(terms, zero_logits);
    log_prob = choose(terms.is_zero(), zero.log_prob, terms.log_prob() + zero.log_others);
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad, T x, T mean, T dispersion, T zero_logits, T& grad_mean,
                                  T& grad_dispersion, T& grad_zero_logits) {
    Terms terms(c, x, mean, dispersion);
    Zero<T> zero = zero_of(terms, zero_logits);
    T of_counts = choose(terms.is_zero(), zero.of_counts, T(1));
    grad_mean = grad * (of_counts * terms.slope_mean(c));
    grad_dispersion = grad * (of_counts * terms.slope_dispersion(c));
    grad_zero_logits = grad * choose(terms.is_zero(), zero.slope_logits, zero.slope_others);
  }

 private:
  static FASTVAE_FN Zero<T> zero_of(const Terms& terms, T zero_logits) {
    return {zero_logits, choose(terms.is_zero(), terms.log_prob_of_0(), T(0))};
  }
};

template <class T>
struct ZeroInflatedNegativeBinomialLogProb : ZeroInflatedNegativeBinomialLogProbOf<T, false> {
  static constexpr bool long_winded = true;
  using AtZero = ZeroInflatedNegativeBinomialLogProbAtZero<T>;
  using NotZero = ZeroInflatedNegativeBinomialLogProbOf<T, true>;
};

}  // namespace fastvae::FASTVAE_ISA
