"""Test ELBO, the same for every way, and whether the ways agree.

Nothing here calls fastvae's operators: they are what is judged.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models import MLPVAE


@dataclass(frozen=True)
class Estimate:
    """Test ELBO in nats per image and the Monte-Carlo standard error of it."""

    elbo: float
    standard_error: float
    log_likelihood: float
    kl: float


@torch.no_grad()
def evaluate(model: MLPVAE, images: Tensor, *, num_samples: int, seed: int = 0) -> Estimate:
    """ELBO of `images` [n, pixels] in float64: KL in closed form, E[log p(x|z)] over `num_samples` draws of z.

    The draws are the same for every model that is evaluated with the same seed.
    """
    model, x = copy.deepcopy(model).double(), images.double()
    generator = torch.Generator().manual_seed(seed)
    mean, log_var = model.encode(x)
    kl = 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum(1).mean()
    std = torch.exp(0.5 * log_var)
    draws = torch.stack(
        [
            -F.binary_cross_entropy_with_logits(
                model.decode(mean + std * torch.randn(std.shape, generator=generator, dtype=std.dtype)),
                x,
                reduction="none",
            ).sum(1)
            for _ in range(num_samples)
        ]
    )
    log_likelihood = draws.mean()
    standard_error = (draws.var(0) / num_samples).sum().sqrt() / len(x)
    return Estimate((log_likelihood - kl).item(), standard_error.item(), log_likelihood.item(), kl.item())


@dataclass(frozen=True)
class Agreement:
    """Which ways' ELBO lies where a further run of the naive way would lie, in nats."""

    centre: float
    spread: float
    tolerance: float
    deviations: dict[str, float]

    @property
    def deviating(self) -> list[str]:
        # Written so that NaN deviates.
        return [name for name, deviation in self.deviations.items() if not abs(deviation) <= self.tolerance]


def agreement(elbos: Mapping[str, float], noise_runs: Sequence[float], confidence: float = 0.999) -> Agreement:
    """Compare `elbos` with `noise_runs`, runs of the naive way that differ in their noise alone.

    The tolerance is the half-width of the prediction interval for one more such run: t * s * sqrt(1 + 1/n), s being the
    standard deviation of the n runs and t Student's quantile with n - 1 degrees of freedom.
    """
    n, centre, spread = len(noise_runs), statistics.fmean(noise_runs), statistics.stdev(noise_runs)
    tolerance = _student_quantile(0.5 + confidence / 2, n - 1) * spread * math.sqrt(1 + 1 / n)
    return Agreement(centre, spread, tolerance, {name: elbo - centre for name, elbo in elbos.items()})


def _student_quantile(probability: float, degrees: int) -> float:
    from scipy.stats import t  # comes with scikit-learn

    return float(t.ppf(probability, degrees))
