"""The VAEs that the package trains itself."""

from .mlp import MLPVAE

__all__ = ["MLPVAE"]
