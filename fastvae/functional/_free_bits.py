"""The floor under a KL where it is none of an operator: of a latent, a sample, the batch; of an element by a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.compiler import is_compiling

from ..formulas.elements import sum_event
from ._arguments import FreeBitsOver, as_operand, is_tensor


def level_of(free_bits: float | Tensor, over: FreeBitsOver) -> FreeBitsOver | None:
    """The level that `floored` takes care of; None where there is no floor, or operators take care of it."""
    if is_tensor(free_bits):
        return over
    return None if free_bits == 0 or over == "element" else over


def elementwise(level: FreeBitsOver, event_ndim: int) -> int:
    """Over how many dimensions the KL that `floored` takes is summed."""
    return 0 if level in ("element", "latent") else event_ndim


def floored(
    kl: Tensor,
    weight: Tensor | None,
    shape: Sequence[int],
    event_ndim: int,
    free_bits: float | Tensor,
    over: FreeBitsOver,
) -> Tensor:
    """kl is elementwise and unweighted for "element" and "latent", else [batch] and weighted; `shape` is the elements'.

    Where the floor holds, no gradient comes through.
    """
    if is_compiling() and not is_tensor(free_bits):
        free_bits = as_operand(free_bits, kl, kl.dtype)
    if over in ("element", "latent"):
        level = kl if over == "element" else _batch_mean(kl, weight, event_ndim)
        kl = torch.where(level <= free_bits, free_bits, kl)
        return sum_event(kl if weight is None else torch.where(weight == 0, 0.0, weight * kl), event_ndim)
    if weight is None:
        level = kl if over == "sample" else _batch_mean(kl, None, 0)
        return torch.where(level <= free_bits, free_bits, kl)
    present = (weight != 0).expand(shape)
    present = present.flatten(-event_ndim).any(-1) if event_ndim else present
    level = kl if over == "sample" else _batch_mean(kl, present, 0)
    return torch.where(level <= free_bits, torch.where(present, free_bits, 0.0).to(kl.dtype), kl)


def _batch_mean(kl: Tensor, weight: Tensor | None, event_ndim: int) -> Tensor:
    """Mean over all but the last `event_ndim` dimensions, weighted if `weight` is given."""
    batch_ndim = kl.dim() - event_ndim
    weight = kl.new_ones(()) if weight is None else weight.detach().to(kl.dtype)
    weight = weight.expand(kl.shape)
    batch_last = [*range(batch_ndim, kl.dim()), *range(batch_ndim)]
    total, count = (sum_event(t.permute(batch_last), batch_ndim) for t in (weight * kl, weight))
    return total / count
