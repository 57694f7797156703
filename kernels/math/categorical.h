// log p(x|z) of classes. A formula of rows: what a walk over a row adds up, and what a second one makes of each
// element.
//
// Logits are taken relative to their largest, and of the sum of exponentials what there is beside the largest's, the
// tail, is kept by itself: of a class that has nearly all of the mass, log p = -log(1 + tail) and 1 - p then have every
// digit.
#pragma once

#include "counts.h"

namespace fastvae {

// Of a row, or of a part of one; of nothing as it stands.
struct RowSums {
  double largest = -INFINITY;  // logit
  double tail = -1;            // sum of exp(logit - largest) without one of the largest
  double total = 0;            // sum of x
  double dot = 0;              // sum of x (logit - largest)
};

// What a normalized value is made of. Factorials cancel, and what they leave may be small beside them.
struct RowTerms {
  double factorials = 0;  // sum of the rests
  double deviances = 0;
};

}  // namespace fastvae

namespace fastvae::FASTVAE_ISA {

FASTVAE_FN RowSums operator+(const RowSums& a, const RowSums& b) {
  bool rises = a.largest < b.largest;
  double upper = rises ? b.largest : a.largest, lower = rises ? a.largest : b.largest;
  double decay = lower == upper ? 1 : exp_decay(lower - upper);
  double dot_below = lower == upper ? 0 : scaled(rises ? a.total : b.total, lower - upper);
  return {upper, (rises ? b.tail : a.tail) + (1 + (rises ? a.tail : b.tail)) * decay, a.total + b.total,
          a.dot + b.dot + dot_below};
}

FASTVAE_FN RowTerms operator+(const RowTerms& a, const RowTerms& b) {
  return {a.factorials + b.factorials, a.deviances + b.deviances};
}

// Of two infinite logits, or of several that are all -infinity, there is no limit.
FASTVAE_FN RowSums settled(RowSums sums) {
  bool lost = (abs(sums.largest) == double(INFINITY)) & (sums.tail > 0);
  sums.tail = lost ? double(NAN) : sums.tail;
  return sums;
}

// A count of one of the class whose logit this is, NaN where there is none.
FASTVAE_FN RowSums of_class(RowSums sums, double logit) {
  sums.total = 1;
  sums.dot = logit == sums.largest ? 0 : logit - sums.largest;
  sums.tail = logit == logit ? sums.tail : double(NAN);
  return sums;
}

// x - total p, `decay` being p over that of the largest; of the dominant logit, where p is beyond 1/2, by 1 - p.
template <class T>
FASTVAE_FN T less_expected(T x, T logit, T decay, T total, T expected, T complement, T dominant) {
  return choose(logit == dominant, (x - total) + complement, fma(-expected, decay, x));
}

// A row as a second walk sees it.
template <class T>
struct Classes {
  T largest, total, expected, complement;
  T log_scale;  // for deviances alone
  T dominant;   // the largest logit where it has more than half of the mass, else NaN

  FASTVAE_FN Classes(const RowSums& row, bool has_deviances)
      : largest(T(row.largest)),
        total(T(row.total)),
        expected(T(row.total / (1 + row.tail))),  // of the largest logit
        complement(T(row.total * (row.tail / (1 + row.tail)))),
        log_scale(has_deviances ? T(std::log(row.total) - std::log1p(row.tail)) : T(0)),
        dominant(row.tail < 1 ? largest : T(NAN)) {}

  FASTVAE_FN T relative(T logit) const { return choose(logit == largest, T(0), logit - largest); }

  FASTVAE_FN T less_expected(T x, T logit) const { return less_expected(x, logit, exp_decay(relative(logit))); }

  // What is expected of a class.
  FASTVAE_FN T mean(T logit) const { return expected * exp_decay(relative(logit)); }

  // x log(x / mean) + mean - x, none of which is negative (Loader 2000).
  FASTVAE_FN T deviance(T x, T logit) const {
    T t = relative(logit), decay = exp_decay(t), mean = expected * decay, inverse = T(1) / choose(x > T(0), x, T(1));
    T excess = -less_expected(x, logit, decay) * inverse, q = mean * inverse;
    // Of an expectation that has underflowed the logarithm is known all the same.
    T rest = choose(q < T(1e-30), excess - ((t + log_scale) + log(inverse)), log1p_of(excess, q).rest);
    return choose(x > T(0), x * rest, mean);
  }

 private:
  FASTVAE_FN T less_expected(T x, T logit, T decay) const {
    return FASTVAE_ISA::less_expected(x, logit, decay, total, expected, complement, dominant);
  }
};

// x log x - x - log x!, what a Poisson distribution has at its mean.
template <class T>
FASTVAE_FN T rest_of_factorial(T x) {
  Constants<T> of_rate;
  of_rate.log_rate = T(0);
  T rest;
  PoissonLogProb<T>::value(of_rate, x, x, rest);
  return rest;
}

// log(1 + tail), the logarithm of all mass over the largest's.
FASTVAE_FN float log_of_mass(double tail, float) {
  bool near = tail <= 1;
  float log = choose(near, log1p_unit(float(near ? tail : 0)), log_normal(float(near ? 1 : 1 + tail)));
  return choose(tail == tail, log, NAN);
}
FASTVAE_FN double log_of_mass(double tail, double) { return std::log1p(tail); }

// In the arithmetic type, so that the factorials of a row with one count cancel exactly.
template <class T>
FASTVAE_FN double log_prob_of(const RowSums& row, const RowTerms& terms, bool normalized) {
  if (normalized) return terms.factorials - rest_of_factorial(T(row.total)) - terms.deviances;
  return row.dot - row.total * double(log_of_mass(row.tail, T()));
}

// Formulas of rows by their signatures, which is what a binding asks of them.
template <class T>
struct MultinomialLogProb {
  static void value(const Constants<T>& c, T x, T logits, T& log_prob);
  static void gradient(const Constants<T>& c, T grad, T x, T logits, T& grad_logits);
};

template <class T>
struct CategoricalLogProb : MultinomialLogProb<T> {};

}  // namespace fastvae::FASTVAE_ISA
