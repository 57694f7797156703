"""Variants of p(x|z) of counts. The naive ones are what scvi-tools computes, with its epsilons.

In float32 whatever comes in: of lgamma in half precision no digit is right.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import NegativeBinomial, Poisson

import fastvae

from .likelihood import events
from .variants import fused, naive, variant

_EPS = 1e-8

fused("poisson_log_prob")(fastvae.poisson_log_prob)
fused("unnormalized_poisson_log_prob")(partial(fastvae.poisson_log_prob, normalized=False))
fused("negative_binomial_log_prob")(fastvae.negative_binomial_log_prob)
fused("zero_inflated_negative_binomial_log_prob")(fastvae.negative_binomial_log_prob)


@naive("poisson_log_prob")
def poisson_log_prob(x: Tensor, log_rate: Tensor) -> Tensor:
    losses = F.poisson_nll_loss(log_rate, x, log_input=True, reduction="none")
    return -events(losses + torch.lgamma(x + 1.0))


@naive("unnormalized_poisson_log_prob")
def unnormalized_poisson_log_prob(x: Tensor, log_rate: Tensor) -> Tensor:
    return -events(F.poisson_nll_loss(log_rate, x, log_input=True, reduction="none"))


@variant("poisson_log_prob", "distributions")
def poisson_distributions(x: Tensor, log_rate: Tensor) -> Tensor:
    return events(Poisson(log_rate.exp(), validate_args=False).log_prob(x))


@naive("negative_binomial_log_prob")
def negative_binomial_log_prob(x: Tensor, mean: Tensor, inverse_dispersion: Tensor) -> Tensor:
    return events(_negative_binomial(x, mean, inverse_dispersion))


@variant("negative_binomial_log_prob", "distributions", dtypes=("fp32",))
def negative_binomial_distributions(x: Tensor, mean: Tensor, inverse_dispersion: Tensor) -> Tensor:
    logits = mean.log() - inverse_dispersion.log()
    return events(NegativeBinomial(inverse_dispersion, logits=logits, validate_args=False).log_prob(x))


@naive("zero_inflated_negative_binomial_log_prob")
def zero_inflated_negative_binomial_log_prob(
    x: Tensor, mean: Tensor, inverse_dispersion: Tensor, zero_logits: Tensor
) -> Tensor:
    mean, inverse_dispersion, zero_logits = mean.float(), inverse_dispersion.float(), zero_logits.float()
    log_total = torch.log(inverse_dispersion + mean + _EPS)
    at_zero = F.softplus(-zero_logits + inverse_dispersion * (torch.log(inverse_dispersion + _EPS) - log_total))
    counts = _negative_binomial(x, mean, inverse_dispersion) - zero_logits
    zero, positive = (x < _EPS).to(mean.dtype), (x > _EPS).to(mean.dtype)
    return events(zero * at_zero + positive * counts - F.softplus(-zero_logits))


def _negative_binomial(x: Tensor, mean: Tensor, inverse_dispersion: Tensor) -> Tensor:
    x, mean, inverse_dispersion = x.float(), mean.float(), inverse_dispersion.float()
    log_total = torch.log(inverse_dispersion + mean + _EPS)
    success = x * (torch.log(mean + _EPS) - log_total)
    failure = inverse_dispersion * (torch.log(inverse_dispersion + _EPS) - log_total)
    ways = torch.lgamma(x + inverse_dispersion) - torch.lgamma(inverse_dispersion) - torch.lgamma(x + 1.0)
    return success + failure + ways
