"""Variants of p(x|z) of classes. The naive ones go over the logits once for their normalizer and again for what is made
of it, with a tensor for each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Multinomial

import fastvae

from .variants import fused, naive, variant

fused("multinomial_log_prob")(fastvae.multinomial_log_prob)
fused("categorical_log_prob")(fastvae.categorical_log_prob)


@naive("multinomial_log_prob")
def multinomial_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    factorials = torch.lgamma(x.sum(-1) + 1.0) - torch.lgamma(x + 1.0).sum(-1)
    return factorials + (x * F.log_softmax(logits, -1)).sum(-1)


@variant("multinomial_log_prob", "distributions", capturable=False)
def multinomial_distributions(x: Tensor, logits: Tensor) -> Tensor:
    return Multinomial(logits=logits, validate_args=False).log_prob(x)


@naive("categorical_log_prob")
def categorical_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    return -F.cross_entropy(logits, x, reduction="none")


@variant("categorical_log_prob", "distributions", capturable=False)
def categorical_distributions(x: Tensor, logits: Tensor) -> Tensor:
    return Categorical(logits=logits, validate_args=False).log_prob(x)


# The loss of Mult-VAE (Liang et al. 2018, eq. 2), without what depends on x alone.


@fused("multinomial_loss")
def multinomial_loss_fused(x: Tensor, logits: Tensor) -> Tensor:
    return -fastvae.multinomial_log_prob(x, logits, normalized=False).mean()


@fused("multinomial_loss", "one pass")
def multinomial_loss_one_pass(x: Tensor, logits: Tensor) -> Tensor:
    return -fastvae.multinomial_log_prob(x, logits, normalized=False, reduction="mean")


@naive("multinomial_loss")
def multinomial_loss(x: Tensor, logits: Tensor) -> Tensor:
    return -(x * F.log_softmax(logits, -1)).sum(-1).mean()
