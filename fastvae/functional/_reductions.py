"""From a likelihood's elements to what its keywords ask for: the event's sum, the batch's reduction, mask, weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .._shapes import batch_shape
from ..formulas.elements import sum_event
from ..ops import Likelihood
from ._arguments import Reduction, check_reduction, element_weight, event_dims
from ._weights import may_need_grad, summed


def checked(
    shape: Sequence[int],
    operands: tuple[Tensor, ...],
    event_ndim: int | None,
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
) -> tuple[int, Tensor | None]:
    """The keywords that every likelihood has: event_ndim as a number, mask and weight as one."""
    check_reduction(reduction)
    event_ndim = event_dims(event_ndim, shape, *operands)
    return event_ndim, element_weight(mask, weight, shape, operands[0].device)


def reduced(
    likelihood: Likelihood,
    operands: tuple[Tensor, ...],
    weight: Tensor | None,
    event_ndim: int,
    constants: tuple[float | str, ...],
    shape: Sequence[int],
    reduction: Reduction,
) -> Tensor:
    if reduction == "none":
        return unreduced(likelihood, operands, weight, event_ndim, constants)
    factor = batch_factor(batch_shape(shape, event_ndim), reduction)
    if may_need_grad(weight):
        return factor * unreduced(likelihood, operands, weight, len(shape), constants)
    total: Tensor = likelihood.total(factor, *operands, weight, len(shape), *constants)
    return total


def elements_loss(
    likelihood: Likelihood,
    operands: tuple[Tensor, ...],
    weight: Tensor | None,
    constants: tuple[float | str, ...],
    shape: Sequence[int],
    reduction: Reduction,
) -> Tensor:
    """-log p of each element, or reduced over all of them."""
    if reduction == "none" or may_need_grad(weight):
        return -reduced(likelihood, operands, weight, 0, constants, shape, reduction)
    loss: Tensor = likelihood.loss(batch_factor(shape, reduction), *operands, weight, len(shape), *constants)
    return loss


def unreduced(
    likelihood: Likelihood,
    operands: tuple[Tensor, ...],
    weight: Tensor | None,
    event_ndim: int,
    constants: tuple[float | str, ...],
) -> Tensor:
    if weight is None:
        log_prob: Tensor = likelihood.apply(*operands, None, event_ndim, *constants)
        return log_prob
    return summed(lambda w, ndim: likelihood.apply(*operands, w, ndim, *constants), weight, event_ndim)


def batch_factor(batch: Sequence[int], reduction: Reduction) -> float:
    """What each element of the batch adds to its reduction; the mean of nothing is 0."""
    return 1 / max(math.prod(batch), 1) if reduction == "mean" else 1.0


def sum_all(values: Tensor) -> Tensor:
    return sum_event(values, values.dim())
