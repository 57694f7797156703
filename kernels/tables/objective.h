// The two halves put together. See operators.h.
OPERATOR(elbo, Elbo, beta, beta_value, event_ndim, averaged)
