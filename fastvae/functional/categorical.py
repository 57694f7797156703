"""p(x|z) of classes: log-likelihoods. Classes are the last dimension of the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..ops import RowLikelihood
from ..ops.categorical import CATEGORICAL_LOG_PROB, MULTINOMIAL_LOG_PROB
from ._arguments import (
    COUNTS,
    FLOATING,
    INDICES,
    Reduction,
    broadcasts,
    check_reduction,
    check_same_device,
    check_tensor,
    checked_ndim,
    element_weight,
    operands_shape,
)
from ._documents import documented
from ._one_node import one_node
from ._reductions import batch_factor, reduced, sum_all
from ._weights import may_need_grad

__all__ = ["categorical_log_prob", "multinomial_log_prob"]

_MOST_CLASSES = 2**24  # an index beyond is no float32


@one_node()
@documented
def multinomial_log_prob(
    x: Tensor,
    logits: Tensor,
    *,
    normalized: bool = True,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = sum of x log softmax(logits) + log((sum of x)! / (x_1! x_2! ...)) in nats, of counts x of classes.

    A class whose logit is -infinity has no mass: where x is 0 it adds nothing, elsewhere the result is -infinity.

    Args:
        x: not negative, which is not checked: floating, or any integer type; read in place.
        logits: float32, bfloat16, float16 or float64; not necessarily normalized.
        normalized: False leaves the factorials out, which depend on x alone and take a logarithm or two for each count.
        mask: bool, broadcasts to the batch. Where it is False, value and gradients are exactly zero, also where the row
            has NaN.
        weight: floating, broadcasts to the batch, whose values it multiplies; zero is a mask's False.

    Shape:
        x and logits broadcast to [*batch, classes]; the last dimension of both is the classes.

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        logits.

    Reference:
        Liang et al. 2018, "Variational autoencoders for collaborative filtering", eq. 2. Factorials: Loader 2000, "Fast
        and accurate computation of binomial probabilities".
    """
    shape = shape_of_counts(x, logits)
    return _of_rows(MULTINOMIAL_LOG_PROB, x, logits, shape, reduction, mask, weight, normalized)


@one_node()
@documented
def categorical_log_prob(
    x: Tensor,
    logits: Tensor,
    *,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = log softmax(logits) of class x in nats.

    A class whose logit is -infinity has no mass: -infinity. Of an x that is no class, value and gradient are NaN: it is
    not checked, since that would stall a GPU.

    Args:
        x: indices of classes, 0 to classes - 1, of any integer type.
        logits: float32, bfloat16, float16 or float64; not necessarily normalized.
        mask: bool, broadcasts to the batch. Where it is False, value and gradients are exactly zero, also where x is no
            class or the row has NaN.
        weight: floating, broadcasts to the batch, whose values it multiplies; zero is a mask's False.

    Shape:
        x [*batch] and logits [*batch, classes] broadcast over the batch.

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where logits are. Differentiable in
        logits.

    Reference:
        Bishop 2006, "Pattern recognition and machine learning", eq. 4.104 and 4.108.
    """
    x, shape = shape_of_indices(x, logits)
    return _of_rows(CATEGORICAL_LOG_PROB, x, logits, shape, reduction, mask, weight)


def shape_of_counts(x: Tensor, logits: Tensor, name: str = "logits") -> torch.Size:
    """[*batch, classes]; the logits go by `name` in errors."""
    shape = operands_shape(("x", name), x, logits, values=COUNTS)
    if x.dim() == 0 or logits.dim() == 0 or x.shape[-1] != logits.shape[-1]:
        shapes = f"x {list(x.shape)}, {name} {list(logits.shape)}"
        raise ValueError(f"the last dimension of x and of {name} must be the same classes, got {shapes}")
    return shape


def shape_of_indices(x: Tensor, logits: Tensor, name: str = "logits") -> tuple[Tensor, torch.Size]:
    """x [*batch, 1], and the shape that it and the logits broadcast to."""
    check_tensor("x", x, INDICES)
    check_tensor(name, logits, FLOATING)
    check_same_device(name, logits, "x", x.device)
    if logits.dim() == 0 or not broadcasts(x.shape, logits.shape[:-1]):
        shapes = f"x {list(x.shape)}, {name} {list(logits.shape)}"
        raise ValueError(f"x [*batch] does not broadcast with the other operands, {name} [*batch, classes]: {shapes}")
    if logits.shape[-1] > _MOST_CLASSES:
        raise ValueError(f"at most {_MOST_CLASSES} classes are served, got {name} {list(logits.shape)}")
    same = x.shape == logits.shape[:-1]
    x = x.unsqueeze(-1)
    return x, checked_ndim(logits.shape) if same else operands_shape(("x", name), x, logits, values=INDICES)


def _of_rows(
    likelihood: RowLikelihood,
    x: Tensor,
    logits: Tensor,
    shape: Sequence[int],
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
    *constants: bool,
) -> Tensor:
    """A likelihood of x and logits that broadcast to `shape`; its keywords are over the batch."""
    # Autograd sums the gradient of logits that rows share.
    operands = (x, logits if logits.shape == shape else logits.expand(shape))

    def call(rows: Tensor | None, reduction: Reduction) -> Tensor:
        return reduced(likelihood, operands, rows, 1, constants, shape, reduction)

    return over_rows(call, shape[:-1], logits.device, reduction, mask, weight)


def over_rows(
    call: Callable[[Tensor | None, Reduction], Tensor],
    batch: Sequence[int],
    device: torch.device,
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """`call` of a weight for each row, [*batch, 1], and a reduction, whatever mask and weight are."""
    check_reduction(reduction)
    each = element_weight(mask, weight, batch, device)
    if each is None or not may_need_grad(each):
        return call(None if each is None else each.unsqueeze(-1), reduction)
    values = each * call((each != 0).unsqueeze(-1), "none")
    return values if reduction == "none" else batch_factor(batch, reduction) * sum_all(values)
