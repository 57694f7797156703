// A mixture's softmaxes over components, of its prior and of its posterior, element by element.
#pragma once

#include "elementary.h"

namespace fastvae::FASTVAE_ISA {

// What logits are taken relative to: their largest, unless it is infinite. Where all are -infinity, so is then the
// logarithm of their sum.
template <class T>
FASTVAE_FN T origin(T largest) {
  return choose(abs(largest) == T(INFINITY), T(0), largest);
}

template <class T>
FASTVAE_FN T relative(T logit, T largest) {
  return logit - origin(largest);
}

// log of the sum over k of pi_k p_k: of e^(relative logits) the prior's sum, and the posterior's, whose logits are
// log p_k and the prior's relative ones.
template <class T>
FASTVAE_FN T log_mixture(T prior_sum, T largest, T sum) {
  return origin(largest) + (log(sum) - log(prior_sum));
}

}  // namespace fastvae::FASTVAE_ISA
