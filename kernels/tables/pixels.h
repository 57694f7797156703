// log p(x|z) of pixels, beside a Bernoulli's and a Gaussian's. See operators.h.
LIKELIHOOD(laplace_log_prob, LaplaceLogProb, x_scale, log_scale)
LIKELIHOOD(continuous_bernoulli_log_prob, ContinuousBernoulliLogProb, x_scale)
LIKELIHOOD(discretized_logistic_log_prob, DiscretizedLogisticLogProb, x_scale, half_bin)
