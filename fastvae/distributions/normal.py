"""The normal distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl

from .._shapes import promoted_dtype
from ..functional import gaussian_log_prob, kl_normal, rsample
from ..ops._packed import serves
from ..ops.noise import normals_like
from ._summed import SummedLogProb

# Elements up to which, on a CPU, three calls of torch's take less time than one through Python's autograd. With
# gradients they do at any size there: backward reads the noise, and does not make it again.
_FEW = 2**15


class Normal(SummedLogProb, torch.distributions.Normal):
    """`torch.distributions.Normal(loc, scale)` with fused `rsample`, `sample`, `log_prob` and `kl_divergence`.

    Noise is the stream that `fastvae.ops.noise` defines, of a seed that torch's generator draws: `torch.manual_seed`
    holds, and gives other numbers than `torch.distributions`.

    Reference:
        `torch.distributions.Normal`; Kingma & Welling 2014, "Auto-encoding variational Bayes", eq. 9.
    """

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """loc + scale * eps, [*sample_shape, *batch_shape]; differentiable in both."""
        loc, scale = self.loc, self.scale
        if not sample_shape and _is_small(loc, scale):
            return torch.addcmul(loc, scale, normals_like(loc))
        if not sample_shape:
            return rsample(loc, scale, scale_as="std")
        shape = self._extended_shape(torch.Size(sample_shape))
        if 0 in sample_shape:
            return loc.new_empty(shape)
        return rsample(loc, scale, scale_as="std", num_samples=math.prod(sample_shape)).reshape(shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """`rsample` without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def summed_log_prob(self, value: Tensor, event_ndim: int) -> Tensor:
        log_prob = gaussian_log_prob(value, self.loc, self.scale, scale_as="std", event_ndim=event_ndim)
        return log_prob.to(promoted_dtype(value, self.loc, self.scale))


def _is_small(loc: Tensor, scale: Tensor) -> bool:
    if loc.device.type != "cpu" or loc.dtype != torch.float32 or scale.dtype != torch.float32:
        return False
    grad = torch.is_grad_enabled() and (loc.requires_grad or scale.requires_grad)
    return (grad or loc.numel() <= _FEW) and serves(loc) and serves(scale)


def summed_kl(p: torch.distributions.Normal, q: torch.distributions.Normal, event_ndim: int) -> Tensor:
    """KL(p || q) in nats, summed over the last dimensions, in one pass."""
    operands = (p.loc, p.scale, q.loc, q.scale)
    divergence: Tensor = kl_normal(*operands, scale_as="std", event_ndim=event_ndim)
    return divergence.to(promoted_dtype(*operands))


@kl.register_kl(Normal, Normal)
@kl.register_kl(Normal, torch.distributions.Normal)
@kl.register_kl(torch.distributions.Normal, Normal)
def _kl_normal_normal(p: torch.distributions.Normal, q: torch.distributions.Normal) -> Tensor:
    return summed_kl(p, q, 0)
