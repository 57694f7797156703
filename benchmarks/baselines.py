"""The operators as people write them: snippets of plain torch, summed over dimension 1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * ((x - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)).sum(1)


def rsample_kl(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    std = torch.exp(0.5 * log_var)
    z = mean + std * torch.randn_like(std)
    return z, kl_standard_normal(mean, log_var)


def kl_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)
