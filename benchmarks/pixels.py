"""Variants of p(x|z) of pixels, beside a Bernoulli's and a Gaussian's.

The naive ones are torch.distributions' classes, and PixelCNN++'s lines, whose pixels lie in [-1, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import ContinuousBernoulli, Laplace

import fastvae

from .cases import PIXELS
from .likelihood import events, pixels
from .variants import fused, naive

for name in PIXELS:
    fused(name)(getattr(fastvae, name))


@naive("laplace_log_prob")
def laplace_log_prob(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return events(Laplace(mean, scale, validate_args=False).log_prob(pixels(x, mean)))


@naive("continuous_bernoulli_log_prob")
def continuous_bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """In float32 whatever comes in: in half precision its bounds on the probabilities are no bounds."""
    distribution = ContinuousBernoulli(logits=logits.float(), validate_args=False)
    return events(distribution.log_prob(pixels(x, logits).float()))


@naive("discretized_logistic_log_prob")
def discretized_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """In float32 whatever comes in: in half precision the difference of two sigmoids has no digit."""
    x, mean, log_scale = pixels(x, mean).float(), mean.float(), log_scale.float()
    # The same where x is a byte's: they compare with -0.999 and 0.999 in [-1, 1].
    return events(pixelcnn(2 * (x - mean), log_scale + math.log(2), x < 0.5 / 255, x > 1 - 0.5 / 255))


def pixelcnn(centred: Tensor, log_scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """PixelCNN++'s log-mass of a byte's bin in [-1, 1], element by element."""
    inverse = torch.exp(-log_scale)
    plus, minus, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
    mass = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scale - 2 * F.softplus(middle) - math.log(127.5)
    inside = torch.where(mass > 1e-5, torch.log(torch.clamp(mass, min=1e-12)), density)
    return torch.where(lowest, plus - F.softplus(plus), torch.where(highest, -F.softplus(minus), inside))
