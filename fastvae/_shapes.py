"""Rules of shape, dtype and summation that formulas, contract and backends share."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor


def promoted_dtype(*tensors: Tensor) -> torch.dtype:
    """What torch computes of them in."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.dtype != dtype:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def sample_shape(shape: Sequence[int], num_samples: int) -> torch.Size:
    """Of z: with an axis for the samples in front, but for 0 of them."""
    return torch.Size((num_samples, *shape) if num_samples > 0 else shape)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast casts to on a device; None where it is off, or where there is none."""
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None


def accumulate_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype of arithmetic and reductions: float64 where any operand is, float32 otherwise."""
    double = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if double else torch.float32


def broadcast_shape(*tensors: Tensor | None) -> torch.Size:
    return torch.broadcast_shapes(*(t.shape for t in tensors if t is not None))


def batch_shape(shape: Sequence[int], event_ndim: int) -> Sequence[int]:
    return shape[: len(shape) - event_ndim]


def is_shared_by_event(tensor: Tensor, event_ndim: int) -> bool:
    """Whether one value serves a whole event: its gradient is then summed over the event by the kernel."""
    return event_ndim > 0 and all(size == 1 for size in tensor.shape[-event_ndim:])


def grad_shape(operand: Tensor, shape: Sequence[int], event_ndim: int) -> Sequence[int]:
    """What a backward operator gives for an operand that broadcasts to `shape`, with as many dimensions.

    One value for each event where one serves all of it, whose sum `sum_to_operand` ends; else the operand's own shape.
    """
    if is_shared_by_event(operand, event_ndim):
        return *batch_shape(shape, event_ndim), *[1] * event_ndim
    return *[1] * (len(shape) - operand.dim()), *operand.shape


def empty_grad(like: Tensor, shape: Sequence[int], event_ndim: int, dtype: torch.dtype) -> Tensor:
    """Output of a backward operator for one operand.

    Full-shape operands get their own dtype and layout, what is summed stays in the accumulation dtype.
    """
    if tuple(like.shape) == tuple(shape):
        return torch.empty_like(like)
    return like.new_empty(grad_shape(like, shape, event_ndim), dtype=dtype)


def sum_to_operand(grad: Tensor, operand: Tensor) -> Tensor:
    if grad.shape != operand.shape:
        shape = [*[1] * (grad.dim() - operand.dim()), *operand.shape]
        grad = sum_to_shape(grad, shape).reshape(operand.shape)
    return grad if grad.dtype == operand.dtype else grad.to(operand.dtype)


def sum_to_shape(term: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum over the dimensions that are one in `shape`, which has as many."""
    summed = [d for d, size in enumerate(shape) if size == 1 != term.shape[d]]
    if not summed:
        return term
    if all(size == 1 for size in shape):
        return sum_last(term, term.dim()).reshape(tuple(shape))
    return term.sum(summed, keepdim=True)


def sum_last(term: Tensor, ndim: int = 1) -> Tensor:
    """Sum over the last `ndim` dimensions, in an order that does not depend on the number of threads."""
    if torch.compiler.is_compiling():
        return term.flatten(-ndim).sum(-1)  # the order is the compiler's
    if is_distributed(term):
        return term.sum(tuple(range(-ndim, 0)))  # shards are not flattened
    # torch splits a sum to one number among its threads above 32768 terms.
    parts = [part.sum(-1) for part in term.flatten(-ndim).split(16384, -1)]
    return parts[0] if len(parts) == 1 else torch.stack(parts, -1).sum(-1)


def is_distributed(tensor: Tensor) -> bool:
    """Whether it is a DTensor. Who has one has imported it: this package does not."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None:
        return False
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return isinstance(tensor, module.DTensor)
