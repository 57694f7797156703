// q(z|x). See operators.h.
OPERATOR(rsample, Rsample, seed, eps, num_samples)
OPERATOR(kl_standard_normal, KlStandardNormal, weight, event_ndim, free_bits)
OPERATOR(kl_normal, KlNormal, weight, event_ndim, free_bits)
OPERATOR(rsample_kl, RsampleKl, seed, eps, event_ndim, free_bits)
