"""From settings to a model."""

from __future__ import annotations

from types import ModuleType

from . import conv, linear, mlp
from .likelihood import Observation
from .settings import Model, Settings
from .vae import VAE

# Each has `encoder(settings)` and `decoder(settings, num_outputs)`.
NETWORKS: dict[Model, ModuleType] = {"mlp": mlp, "conv": conv, "linear": linear}


def build(settings: Settings) -> VAE:
    """A VAE with fresh weights, from torch's own random generator."""
    observation = Observation(
        settings.likelihood,
        settings.image_shape,
        variance=settings.variance,
        log_var=settings.log_var,
        constant=settings.model == "linear",
    )
    networks = NETWORKS[settings.model]
    encoder, decoder = networks.encoder(settings), networks.decoder(settings, observation.num_outputs)
    return VAE(encoder, decoder, observation, settings.latents, fused_head=settings.fused_head)
