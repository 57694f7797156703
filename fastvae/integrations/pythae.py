"""pythae: sampling, divergence and Gaussian reconstruction of `VAE` and `IWAE`.

`reconstruction_loss="bce"` stays torch's: pythae's decoders give probabilities, of which there are no logits any more.
Models that have functions of their own keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributions.diagonal_gaussian import Noise
from ..functional import gaussian_log_prob, kl_standard_normal, rsample
from ..ops.noise import normals_like
from ._patching import Library, Replacement


def _replacements(noise: Noise) -> Iterator[Replacement]:
    from pythae.models import IWAE, VAE

    draw = torch.randn_like if noise == "torch" else normals_like
    for model, loss_function in ((VAE, _vae_loss), (IWAE, _iwae_loss)):
        yield Replacement(model, "_sample_gauss", _sampler(draw))
        yield Replacement(model, "loss_function", loss_function)


def _sampler(draw: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def _sample_gauss(self: Any, mu: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        eps = draw(std)
        return rsample(mu, std, scale_as="std", eps=eps), eps

    return _sample_gauss


def _reconstruction_loss(kind: str, recon_x: Tensor, x: Tensor) -> Tensor:
    """-log p(x|z) without its constant, of rows [..., D]."""
    if kind == "mse":
        return -gaussian_log_prob(x, recon_x, 0.0, normalized=False, event_ndim=1)
    return F.binary_cross_entropy(recon_x, x.expand_as(recon_x), reduction="none").sum(dim=-1)


def _vae_loss(
    self: Any, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows = (recon_x.reshape(x.shape[0], -1), x.reshape(x.shape[0], -1))
    recon_loss = _reconstruction_loss(self.model_config.reconstruction_loss, *rows)
    kl = kl_standard_normal(mu, log_var, event_ndim=1)
    return (recon_loss + kl).mean(dim=0), recon_loss.mean(dim=0), kl.mean(dim=0)


def _iwae_loss(
    self: Any, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The bound's gradient by weights that are normalised over the samples, [batch, K]."""
    rows = (recon_x, x.reshape(x.shape[0], 1, -1))
    recon_loss = _reconstruction_loss(self.model_config.reconstruction_loss, *rows)
    log_qz = gaussian_log_prob(z, mu, log_var, normalized=False, event_ndim=1)
    log_pz = gaussian_log_prob(z, torch.zeros_like(z[:, :1]), 0.0, normalized=False, event_ndim=1)
    log_w = log_pz - log_qz - recon_loss
    weight = torch.softmax(log_w, dim=1).detach()
    return -(weight * log_w).sum(1).mean(), recon_loss.mean(), (log_qz - log_pz).mean()


LIBRARY = Library("pythae", "0.1.2", "0.2", _replacements)
patch, unpatch = LIBRARY.patch, LIBRARY.unpatch
