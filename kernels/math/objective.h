// The two halves put together.
#pragma once

#include "constants.h"
#include "platform.h"

namespace fastvae::FASTVAE_ISA {

// loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4); the ELBO itself has beta = 1
template <class T>
struct Elbo {
  static FASTVAE_FN void value(const Constants<T>& c, T log_px, T kl, T beta, T& loss, T& elbo, T& log_likelihood,
                               T& out_kl) {
    loss = fma(c.beta_value * beta, kl, -log_px);
    elbo = log_px - kl;
    log_likelihood = log_px;
    out_kl = kl;
  }

  static FASTVAE_FN void gradient(const Constants<T>& c, T grad_loss, T grad_elbo, T grad_log_likelihood, T grad_out_kl,
                                  T kl, T beta, T& grad_log_px, T& grad_kl, T& grad_beta) {
    grad_log_px = c.factor * (grad_elbo + grad_log_likelihood - grad_loss);
    grad_kl = c.factor * (fma(c.beta_value * beta, grad_loss, grad_out_kl) - grad_elbo);
    grad_beta = c.factor * c.beta_value * kl * grad_loss;
  }
};

}  // namespace fastvae::FASTVAE_ISA
