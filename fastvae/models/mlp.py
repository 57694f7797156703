"""Fully connected networks; and the VAE of PyTorch's examples, with one hidden layer on either side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .settings import Settings


def encoder(settings: Settings) -> nn.Module:
    """[batch, C, H, W] -> [batch, 2 L]."""
    return nn.Sequential(
        nn.Flatten(), *_layers([math.prod(settings.image_shape), *settings.hidden, 2 * settings.latents])
    )


def decoder(settings: Settings, num_outputs: int) -> nn.Module:
    """[rows, L] -> [rows, num_outputs C H W]."""
    pixels = num_outputs * math.prod(settings.image_shape)
    return nn.Sequential(*_layers([settings.latents, *reversed(settings.hidden), pixels]))


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear ones with ReLU between them."""
    layers: list[nn.Module] = [module for a, b in pairwise(sizes) for module in (nn.Linear(a, b), nn.ReLU())]
    return layers[:-1]


class MLPVAE(nn.Module):
    """Encoder x -> (mean, log_var) of q(z|x); decoder z -> logits of p(x|z).

    Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C, with ReLU as in PyTorch's `examples/vae`.
    The model holds the networks only: sampling, KL and likelihood belong to the objective.

    Args:
        pixels: size D of the event x, [batch, D].
        hidden: width of the hidden layer of encoder and decoder.
        latent: size L of z, [batch, L].
    """

    def __init__(self, pixels: int = 784, hidden: int = 400, latent: int = 20) -> None:
        super().__init__()
        self.pixels, self.hidden, self.latent = pixels, hidden, latent
        self.encoder = nn.Linear(pixels, hidden)
        self.mean = nn.Linear(hidden, latent)
        self.log_var = nn.Linear(hidden, latent)
        self.decoder = nn.Linear(latent, hidden)
        self.logits = nn.Linear(hidden, pixels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), both [batch, latent]."""
        h = F.relu(self.encoder(x))
        return self.mean(h), self.log_var(h)

    def decode(self, z: Tensor) -> Tensor:
        """Bernoulli logits of p(x|z), [batch, pixels]."""
        return self.logits(F.relu(self.decoder(z)))
