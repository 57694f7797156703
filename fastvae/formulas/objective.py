"""The two halves put together."""

from __future__ import annotations


def elbo(log_px, kl, beta, *, beta_value):
    """loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4), the ELBO, and its two parts."""
    return beta_value * beta * kl - log_px, log_px - kl, log_px, kl


def elbo_gradient(grad_loss, grad_elbo, grad_log_likelihood, grad_kl, log_px, kl, beta, *, beta_value):
    of_log_px = grad_elbo + grad_log_likelihood - grad_loss
    of_kl = beta_value * beta * grad_loss - grad_elbo + grad_kl
    return of_log_px, of_kl, beta_value * kl * grad_loss


def rescale_(grad, upstream) -> None:
    """In place: the gradients of a negative total become those of a total with gradient `upstream`."""
    grad.mul_(-upstream)
