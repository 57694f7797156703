// The two halves put together.
#pragma once

#include "constants.h"
#include "platform.h"

namespace fastvae::FASTVAE_ISA {

// loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4); the ELBO itself has beta = 1
template <class T>
struct Elbo {
  static constexpr int inputs = 3, outputs = 4;
  static constexpr unsigned tensor_inputs = 0b0;
  static FASTVAE_FN void at(const Constants<T>& c, T log_px, T kl, T beta, T& loss, T& elbo, T& log_likelihood,
                            T& out_kl) {
    loss = fma(c.beta * beta, kl, -log_px);
    elbo = log_px - kl;
    log_likelihood = log_px;
    out_kl = kl;
  }
};

template <class T>
struct ElboBackward {
  static constexpr int inputs = 7, outputs = 3;
  static constexpr unsigned tensor_inputs = 0b0;
  static FASTVAE_FN void at(const Constants<T>& c, T grad_loss, T grad_elbo, T grad_log_likelihood, T grad_out_kl, T,
                            T kl, T beta, T& grad_log_px, T& grad_kl, T& grad_beta) {
    grad_log_px = c.share * (grad_elbo + grad_log_likelihood - grad_loss);
    grad_kl = c.share * (fma(c.beta * beta, grad_loss, grad_out_kl) - grad_elbo);
    grad_beta = c.share * c.beta * kl * grad_loss;
  }
};

}  // namespace fastvae::FASTVAE_ISA
