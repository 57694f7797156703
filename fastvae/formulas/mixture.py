"""p(x|z) of a mixture: of its components' log-likelihoods, and what their gradients take."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mixture(NamedTuple):
    """log p = log of the sum over k of pi_k p_k, pi = softmax(logits); components are dimension `dim`."""

    log_prob: Tensor  # `dim` of size 1
    prior: Tensor  # pi
    posterior: Tensor  # of the component, given the value


def mixture(logits: Tensor, log_probs: Tensor, dim: int) -> Mixture:
    """The gradient of log p is the posterior in `log_probs`, and posterior - prior in `logits`."""
    prior = _softmax(logits, dim)
    posterior = _softmax(log_probs + (prior.relative - prior.log_sum), dim)
    return Mixture(posterior.largest + posterior.log_sum, prior.p, posterior.p)


def mixture_log_prob(logits: Tensor, log_probs: Tensor, dim: int) -> Tensor:
    """The value alone, differentiable."""
    return torch.logsumexp(logits.log_softmax(dim) + log_probs, dim, keepdim=True)


class _Softmax(NamedTuple):
    """p = exp(relative - log_sum), by one exponential for each element."""

    largest: Tensor
    relative: Tensor
    log_sum: Tensor
    p: Tensor


def _softmax(logits: Tensor, dim: int) -> _Softmax:
    largest = logits.amax(dim, keepdim=True)
    largest = torch.where(largest.isinf(), 0.0, largest)  # where all are -infinity, so is the sum
    relative = logits - largest
    p = relative.exp()
    total = p.sum(dim, keepdim=True)
    return _Softmax(largest, relative, total.log(), p.div_(total))
