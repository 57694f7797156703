// log p(x|z) of counts. See operators.h.
LIKELIHOOD(poisson_log_prob, PoissonLogProb, log_rate)
LIKELIHOOD(unnormalized_poisson_log_prob, UnnormalizedPoissonLogProb, log_rate)
LIKELIHOOD(negative_binomial_log_prob, NegativeBinomialLogProb, log_mean, odds, log_dispersion)
LIKELIHOOD(zero_inflated_negative_binomial_log_prob, ZeroInflatedNegativeBinomialLogProb, log_mean, odds,
           log_dispersion)
