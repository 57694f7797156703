"""Variational autoencoders: networks, a likelihood, the bounds that they are trained on."""

from . import diagnostics, schedules
from .build import build
from .likelihood import Observation
from .mlp import MLPVAE
from .settings import Settings
from .vae import VAE

__all__ = ["MLPVAE", "VAE", "Observation", "Settings", "build", "diagnostics", "schedules"]
