// log p(x|z). See operators.h.
LIKELIHOOD(bernoulli_log_prob, BernoulliLogProb, x_scale)
LIKELIHOOD(gaussian_log_prob, GaussianLogProb, x_scale, normalized)
FORMULA(rescale, Rescale)
