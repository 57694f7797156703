"""The doubly reparameterised gradient: what reaches z from a bound is weighted once more on its way to the encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .._shapes import accumulate_dtype, batch_shape


class Tapped(Function):
    """z as it is, and the zeros whose gradient tells the weights: those of the bound's K terms, then the bound's own.

    Not by a hook, which torch.compile does not trace, nor by what a bound leaves behind, since it comes after z.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, event_ndim: int) -> tuple[Tensor, Tensor]:
        samples, *batch = batch_shape(z.shape, event_ndim)
        return z.view_as(z), z.new_zeros((samples + 1, *batch), dtype=accumulate_dtype(z))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.event_ndim = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_tap: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        of_terms, of_bound = of_tap[:-1], of_tap[-1:]
        weights = of_terms / torch.where(of_bound == 0, 1.0, of_bound)
        return (grad * weights.reshape([*weights.shape, *[1] * ctx.event_ndim])).to(grad.dtype), None
