"""The linear Gaussian VAE: probabilistic PCA and factor analysis, whose likelihoods are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import nn

from .settings import Settings


def encoder(settings: Settings) -> nn.Module:
    """One matrix. The posterior's variance is the same for every x, so its rows start at 0."""
    layer = nn.Linear(math.prod(settings.image_shape), 2 * settings.latents)
    with torch.no_grad():
        layer.weight[settings.latents :] = 0
        layer.bias[settings.latents :] = 0
    return nn.Sequential(nn.Flatten(), layer)


def decoder(settings: Settings, num_outputs: int) -> nn.Module:
    """The loading matrix W and the mean: E[x|z] = W z + mean (Tipping & Bishop 1999)."""
    return nn.Linear(settings.latents, num_outputs * math.prod(settings.image_shape))
