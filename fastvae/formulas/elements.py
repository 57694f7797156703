"""What surrounds every formula: the dtype of arithmetic, weights, sums, memory layouts."""

from __future__ import annotations

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, grad_shape, is_shared_by_event, sum_last, sum_to_shape


def in_arithmetic(weight: Tensor | None, *tensors: Tensor | None, instead: float = 1.0) -> list[Tensor | None]:
    """Everything in the dtype of arithmetic; what weighs nothing is replaced `instead`, lest 0 * NaN come through.

    Contiguous, since torch computes exp by other instructions, to other bits, where a tensor is strided.
    """
    dtype = accumulate_dtype(weight, *tensors)
    converted = [t if t is None else t.to(dtype).contiguous() for t in tensors]
    if weight is None:
        return [None, *converted]
    return [weight.to(dtype), *(t if t is None else torch.where(weight == 0, instead, t) for t in converted)]


def weighted(weight: Tensor | None, term: Tensor) -> Tensor:
    return term if weight is None else torch.where(weight == 0, 0.0, weight * term)


def sum_event(term: Tensor, event_ndim: int) -> Tensor:
    """Sum over the last `event_ndim` dimensions."""
    if event_ndim == 0:
        return contiguous(term)
    return sum_last(term, event_ndim)


def zero_if_none(grad: Tensor | None, like: Tensor, dtype: torch.dtype, event_ndim: int = 0) -> Tensor:
    """An output's gradient, with the summed dimensions put back as ones."""
    if grad is None:
        return like.new_zeros((), dtype=dtype)
    return grad.to(dtype).reshape([*grad.shape, *[1] * event_ndim])


def as_grad(grad: Tensor, operand: Tensor, shape: torch.Size, event_ndim: int) -> Tensor:
    """A gradient of `shape` as `fastvae._shapes.empty_grad` describes it."""
    grad = grad.expand(shape)
    if grad.shape == operand.shape:
        return like_operand(grad, operand)
    if is_shared_by_event(operand, event_ndim):
        return contiguous(sum_event(grad, event_ndim).reshape(grad_shape(operand, shape, event_ndim)))
    return contiguous(sum_to_shape(grad, grad_shape(operand, shape, event_ndim)))


def like_operand(value: Tensor, operand: Tensor) -> Tensor:
    """In the operand's dtype, and in its memory layout where it has one for this shape; never its memory."""
    value = value.to(operand.dtype)
    if operand.is_contiguous() or value.shape != operand.shape:
        return contiguous(value)
    strides = torch.empty_like(operand).stride()
    order = sorted(range(value.dim()), key=lambda dim: -strides[dim])
    inverse = sorted(range(value.dim()), key=lambda dim: order[dim])
    return contiguous(value.permute(order)).permute(inverse)


def contiguous(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """By Horner's scheme, coefficients from the constant term up."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result
