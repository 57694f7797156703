"""The floor under a KL, at the level of a latent, a sample or the batch; of an element's the operators take care."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._shapes import batch_shape, sum_last
from ..formulas.elements import sum_event
from ._arguments import FreeBitsOver


def floored(
    kl: Tensor, weight: Tensor | None, shape: Sequence[int], event_ndim: int, free_bits: float, over: FreeBitsOver
) -> Tensor:
    """kl is elementwise and unweighted for "latent", else [batch] and weighted; `shape` is the elements'."""
    if over == "latent":
        return _floored_latents(kl, weight, event_ndim, free_bits)
    if weight is None:
        level = kl if over == "sample" else _batch_mean(kl, None, 0)
        return torch.where(level <= free_bits, free_bits, kl)
    present = (weight != 0).expand(shape)
    present = present.flatten(-event_ndim).any(-1) if event_ndim else present
    level = kl if over == "sample" else _batch_mean(kl, present, 0)
    return torch.where(level <= free_bits, torch.where(present, free_bits, 0.0).to(kl.dtype), kl)


def _floored_latents(kl: Tensor, weight: Tensor | None, event_ndim: int, free_bits: float) -> Tensor:
    level = _batch_mean(kl, weight, event_ndim)
    kl = torch.where(level <= free_bits, free_bits, kl)
    if weight is not None:
        kl = torch.where(weight == 0, 0.0, weight * kl)
    return sum_event(kl, event_ndim)


def _batch_mean(kl: Tensor, weight: Tensor | None, event_ndim: int) -> Tensor:
    """Mean over all but the last `event_ndim` dimensions, weighted if `weight` is given."""
    batch = batch_shape(kl.shape, event_ndim)
    rows = (math.prod(batch), *kl.shape[len(batch) :])
    weight = kl.new_ones(()) if weight is None else weight.detach().to(kl.dtype)
    weight = weight.expand(kl.shape)
    total, count = (sum_last(t.reshape(rows).movedim(0, -1)) for t in (weight * kl, weight))
    return total / count
