"""The normal distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl

from .._shapes import promoted_dtype
from ..functional import gaussian_log_prob, kl_normal, rsample
from ..functional._arguments import scale_arguments
from ..ops._autograd import has_graph
from ..ops._packed import serves
from ..ops.noise import draw_seed, normals_like
from ..ops.posterior import RSAMPLE
from ._summed import SummedLogProb

_rsample_of = RSAMPLE.forward.call
_STD = (0, *scale_arguments("std", 0.0, None))  # no axis of samples; how the scale is read


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
        if not sample_shape:
            return _plain_sample(loc, scale) if _is_plain(loc, scale) else rsample(loc, scale, scale_as="std")
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


def _is_plain(loc: Tensor, scale: Tensor) -> bool:
    """Whether there is nothing to check: float32 on a CPU, no compiler nor transform at work."""
    if loc.dtype is not torch.float32 or scale.dtype is not torch.float32 or not (loc.is_cpu and scale.is_cpu):
        return False
    return serves(loc) and serves(scale) and loc.layout is torch.strided and scale.layout is torch.strided


def _plain_sample(loc: Tensor, scale: Tensor) -> Tensor:
    """On a CPU backward takes less time to read the noise than to make it again, and two of torch's nodes less than one
    of Python's."""
    if has_graph((loc, scale)):
        return loc + scale * normals_like(loc)
    z: Tensor = _rsample_of(loc, scale, draw_seed(loc), None, *_STD)
    return z


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
