"""The Bernoulli distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from .._shapes import promoted_dtype
from ..functional import bernoulli_log_prob
from ._summed import SummedLogProb

_IN_PLACE = (torch.bool, torch.uint8)  # that kernels read as they are


class Bernoulli(SummedLogProb, torch.distributions.Bernoulli):
    """`torch.distributions.Bernoulli(probs)` or `(logits=)` with a fused `log_prob`; soft values in [0, 1] too.

    Probabilities are clamped as torch does before they become logits. All else is torch's own.

    Reference:
        `torch.distributions.Bernoulli`.
    """

    def summed_log_prob(self, value: Tensor, event_ndim: int) -> Tensor:
        x = value if value.is_floating_point() or value.dtype in _IN_PLACE else value.to(self.logits.dtype)
        log_prob = bernoulli_log_prob(x, self.logits, event_ndim=event_ndim, x_scale=1.0)
        return log_prob.to(promoted_dtype(x, self.logits))
