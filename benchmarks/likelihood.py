"""Variants of p(x|z)'s operators. The naive ones are the snippets that people have in their training loops."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal

import fastvae

from .cases import COUNTS, LIKELIHOODS, PIXELS
from .variants import fused, naive, variant

for name in LIKELIHOODS:
    if name not in (*COUNTS, *PIXELS):
        fused(name)(getattr(fastvae, name))


@naive("bernoulli_log_prob")
def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    return -events(F.binary_cross_entropy_with_logits(logits, pixels(x, logits), reduction="none"))


@variant("bernoulli_log_prob", "probabilities", dtypes=("fp32",))
def bernoulli_probabilities(x: Tensor, logits: Tensor) -> Tensor:
    """PyTorch's example: in half precision its sigmoid rounds to 1, and it is wrong."""
    probabilities = torch.sigmoid(logits)
    return -events(F.binary_cross_entropy(probabilities, pixels(x, logits), reduction="none"))


@variant("bernoulli_log_prob", "distributions")
def bernoulli_distributions(x: Tensor, logits: Tensor) -> Tensor:
    """Without the checks of arguments: they refuse soft targets."""
    return events(Bernoulli(logits=logits, validate_args=False).log_prob(pixels(x, logits)))


@naive("gaussian_log_prob")
def gaussian_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    squares = (pixels(x, mean) - mean) ** 2
    return -0.5 * events(squares / log_var.exp() + log_var + math.log(2 * math.pi))


@variant("gaussian_log_prob", "distributions", capturable=False)
def gaussian_distributions(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    return events(Normal(mean, torch.exp(0.5 * log_var)).log_prob(pixels(x, mean)))


# The whole loss: a mean over the batch of sums over pixels.


@fused("bernoulli_loss")
def bernoulli_loss_fused(x: Tensor, logits: Tensor) -> Tensor:
    return -fastvae.bernoulli_log_prob(x, logits).mean()


@fused("bernoulli_loss", "one pass")
def bernoulli_loss_one_pass(x: Tensor, logits: Tensor) -> Tensor:
    return -fastvae.bernoulli_log_prob(x, logits, reduction="mean")


@naive("bernoulli_loss")
def bernoulli_loss(x: Tensor, logits: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


@fused("gaussian_loss")
def gaussian_loss_fused(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    return -fastvae.gaussian_log_prob(x, mean, log_var).mean()


@fused("gaussian_loss", "one pass")
def gaussian_loss_one_pass(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    return -fastvae.gaussian_log_prob(x, mean, log_var, reduction="mean")


@naive("gaussian_loss")
def gaussian_loss(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    # Not F.gaussian_nll_loss: it asks the host whether a variance is negative.
    return -gaussian_log_prob(x, mean, log_var).mean()


def events(terms: Tensor) -> Tensor:
    return terms.sum(tuple(range(1, terms.dim())))


def pixels(x: Tensor, parameter: Tensor) -> Tensor:
    """Bytes as data loaders convert them."""
    return x.to(parameter.dtype) / 255 if x.dtype == torch.uint8 else x
