"""The posterior of Oobleck, the autoencoder of Stable Audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from .diagonal_gaussian import DiagonalGaussian

STD_EPS = 1e-4


class OobleckDiagonalGaussian(DiagonalGaussian):
    """`OobleckDiagonalGaussianDistribution` of diffusers: std = softplus(scale) + 1e-4, packed behind the mean.

    `kl` is not the divergence, but what diffusers computes there: without the half, summed over the channels, averaged
    over all else; with another posterior the difference of the log-variances has the other sign. A sample is one where
    `deterministic` is set, too. For the rest see `DiagonalGaussian`.

    Reference:
        Evans et al. 2024, "Stable Audio Open"; `OobleckDiagonalGaussianDistribution` of diffusers.
    """

    _read_as: ClassVar[dict[str, Any]] = {"scale_as": "softplus", "scale_eps": STD_EPS, "clamp": None}

    @property
    def scale(self) -> Tensor:
        return self._scale

    @property
    def std(self) -> Tensor:
        return F.softplus(self.scale) + STD_EPS

    @property
    def var(self) -> Tensor:
        return self.std * self.std

    @property
    def logvar(self) -> Tensor:
        return self.var.log()

    def kl(self, other: DiagonalGaussian | None = None, dims: Sequence[int] | None = None) -> Tensor:
        """Of diffusers, 0-d in nats; see the class.

        Args:
            dims: must be None.
        """
        if dims is not None:
            raise ValueError(f"dims are fixed here, got {list(dims)}")
        if other is None or self.deterministic:
            return super().kl().sum() * (2 * self.mean.shape[1] / self.mean.numel())
        squares = (self.mean - other.mean) ** 2 / other.var
        return (squares + self.var / other.var + self.logvar - other.logvar - 1).sum(1).mean()

    def _is_mean(self) -> bool:
        return False

    def _new_std(self) -> Tensor:
        return F.softplus(self.scale).add_(STD_EPS)
