// log p(x|z): its formulas, float and double. The device says what an entry is.
#pragma once

#include FASTVAE_FAMILIES

#include "../math/likelihood.h"

namespace fastvae::FASTVAE_ISA {

void add_likelihood(Table& table) {
  add<BernoulliLogProb>(table, Formula::bernoulli_log_prob);
  add<BernoulliLogProbBackward>(table, Formula::bernoulli_log_prob_backward);
  add_scaled<GaussianLogProb>(table, Formula::gaussian_log_prob);
  add_scaled<GaussianLogProbBackward>(table, Formula::gaussian_log_prob_backward);
  add<BernoulliLogProbOnePass>(table, Formula::bernoulli_log_prob_one_pass);
  add_scaled<GaussianLogProbOnePass>(table, Formula::gaussian_log_prob_one_pass);
  add<Rescale>(table, Formula::rescale);
}

}  // namespace fastvae::FASTVAE_ISA
