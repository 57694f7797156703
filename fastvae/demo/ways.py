"""The ways to compute one objective: as people write it, and with fastvae; each eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import fastvae

from ..models import MLPVAE
from ..training.loop import Objective, Terms


class NaiveTerms(NamedTuple):
    loss: Tensor
    log_likelihood: Tensor
    kl: Tensor


def naive(model: MLPVAE, x: Tensor) -> NaiveTerms:
    """PyTorch's `examples/vae`, with cross-entropy on logits and means over the batch."""
    mean, log_var = model.encode(x)
    std = torch.exp(0.5 * log_var)
    z = mean + std * torch.randn_like(std)
    logits = model.decode(z)
    log_px = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / -len(x)
    kl = -0.5 / len(x) * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
    return NaiveTerms(kl - log_px, log_px, kl)


def fused(model: MLPVAE, x: Tensor) -> fastvae.ElboTerms:
    mean, log_var = model.encode(x)
    z, kl = fastvae.rsample_kl(mean, log_var)
    log_px = fastvae.bernoulli_log_prob(x, model.decode(z))
    return fastvae.elbo(log_px, kl)


def network(model: MLPVAE, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The network without an objective: what remains of a step when the ELBO costs nothing."""
    mean, log_var = model.encode(x)
    return mean, log_var, model.decode(z)


@dataclass(frozen=True)
class Way:
    name: str
    function: Callable[[Any, Tensor], Terms]
    compiled: bool

    def objective(self) -> Objective:
        """Of every step alike: noise obeys `torch.manual_seed`."""
        function = torch.compile(self.function, dynamic=False) if self.compiled else self.function
        return lambda model, x, step: function(model, x)


NAIVE = Way("naive, eager", naive, compiled=False)
WAYS = (
    NAIVE,
    Way("naive, compiled", naive, compiled=True),
    Way("fastvae, eager", fused, compiled=False),
    Way("fastvae, compiled", fused, compiled=True),
)


def compile_problem() -> str | None:
    """Why torch.compile does not work here (no C++ compiler, no Python headers), or None. Tried, not guessed."""
    try:
        torch.compile(torch.cos, dynamic=False)(torch.zeros(8))
    except Exception as error:  # whatever the tool chain raises, the demo goes on without the compiled ways
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None
