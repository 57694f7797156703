"""torch.func.vmap for operators: the mapped dimension becomes one more batch dimension where that is exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def as_batch(call: Callable, num_tensors: int, per_sample: bool, batch_size: int, in_dims, args):
    """One call with the mapped dimension in front.

    `per_sample` also repeats (as stride-0 views) what is not mapped, so that each sample gets a gradient of its own.
    """
    ndim = max(_logical_ndim(t, d) for t, d in zip(args, in_dims, strict=True) if isinstance(t, Tensor))
    fronted = [
        _to_front(arg, dim, ndim, per_sample, batch_size) if isinstance(arg, Tensor) and i < num_tensors else arg
        for i, (arg, dim) in enumerate(zip(args, in_dims, strict=True))
    ]
    return _with_out_dims(call(*fronted))


def as_loop(call: Callable, batch_size: int, in_dims, args):
    """One call for each sample: what numbers its elements, or is seeded by sample, cannot be merged."""
    results = []
    for i in range(batch_size):
        sample = [_select(arg, dim, i) for arg, dim in zip(args, in_dims, strict=True)]
        results.append(call(*sample))
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return _with_out_dims(tuple(torch.stack(parts) for parts in zip(*results, strict=True)))


def _select(arg, dim, index: int):
    return arg.select(dim, index) if isinstance(arg, Tensor) and dim is not None else arg


def _logical_ndim(tensor: Tensor, dim: int | None) -> int:
    return tensor.dim() - (dim is not None)


def _to_front(tensor: Tensor, dim: int | None, ndim: int, per_sample: bool, batch_size: int) -> Tensor:
    if dim is None:
        if not per_sample:
            return tensor
        tensor, dim = tensor.expand(batch_size, *tensor.shape), 0
    tensor = tensor.movedim(dim, 0)
    return tensor.reshape(batch_size, *[1] * (ndim - tensor.dim() + 1), *tensor.shape[1:])


def _with_out_dims(result):
    if isinstance(result, Tensor):
        return result, 0
    return result, tuple(None if part.dim() == 1 and part.numel() == 0 else 0 for part in result)
