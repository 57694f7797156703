"""Batch dimensions read as dimensions of one event."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl, kl_divergence

from ._summed import SummedLogProb
from .normal import summed_kl


class Independent(torch.distributions.Independent):
    """`torch.distributions.Independent(base, ndims)`: of this package's distributions, sums are part of the kernel.

    Of any other base it is torch's own.

    Reference:
        `torch.distributions.Independent`.
    """

    _validate_args = False

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, summed over the event."""
        # A value that lacks batch dimensions broadcasts, and torch sums its own last ones alike.
        if isinstance(self.base_dist, SummedLogProb):
            if self._validate_args:
                self._validate_sample(value)
            return self.base_dist.summed_log_prob(value, self.reinterpreted_batch_ndims)
        result: Tensor = super().log_prob(value)
        return result


@kl.register_kl(Independent, Independent)
@kl.register_kl(Independent, torch.distributions.Independent)
@kl.register_kl(torch.distributions.Independent, Independent)
def _kl_independent_independent(p: Any, q: Any) -> Tensor:
    ndims = p.reinterpreted_batch_ndims
    if ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(f"events of {ndims} and {q.reinterpreted_batch_ndims} batch dimensions")
    if all(isinstance(d.base_dist, torch.distributions.Normal) for d in (p, q)):
        return summed_kl(p.base_dist, q.base_dist, ndims)
    divergence: Tensor = kl_divergence(p.base_dist, q.base_dist)
    return divergence.sum(tuple(range(-ndims, 0))) if ndims else divergence
