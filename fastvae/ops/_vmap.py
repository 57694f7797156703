"""torch.func.vmap for operators: the mapped dimension becomes one more batch dimension where that is exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._contract import Contract


def forward_rule(contract: Contract, numbered: bool) -> Callable:
    """`numbered` operators draw noise by element index: one call for each sample."""

    def rule(info, in_dims, *args):
        if numbered:
            return as_loop(contract.call, info.batch_size, in_dims, args)
        results = as_batch(contract.call, contract.num_tensors, False, info.batch_size, in_dims, args)
        return results, _dims(results, True)

    return rule


def backward_rule(contract: Contract, num_outputs: int, numbered: bool) -> Callable:
    def rule(info, in_dims, *args):
        if numbered:
            return as_loop(contract.call, info.batch_size, in_dims, args)
        # A gradient of the output has the output's dimensions, not the operands': only the batch is put in front.
        grads = [
            g if g is None else (g.expand(info.batch_size, *g.shape) if d is None else g.movedim(d, 0))
            for g, d in zip(args[:num_outputs], in_dims[:num_outputs], strict=True)
        ]
        results = as_batch(
            lambda *rest: contract.call(*grads, *rest),
            contract.num_tensors - num_outputs,
            True,
            info.batch_size,
            in_dims[num_outputs:],
            args[num_outputs:],
        )
        needs = args[-1]  # what is not needed is one empty tensor for all samples
        return results, _dims(results, *needs)

    return rule


def as_batch(call: Callable, num_tensors: int, per_sample: bool, batch_size: int, in_dims, args):
    """One call with the mapped dimension in front.

    `per_sample` also repeats (as stride-0 views) what is not mapped, so that each sample gets a gradient of its own.
    """
    ndim = max(_logical_ndim(t, d) for t, d in zip(args, in_dims, strict=True) if isinstance(t, Tensor))
    fronted = [
        _to_front(arg, dim, ndim, per_sample, batch_size) if isinstance(arg, Tensor) and i < num_tensors else arg
        for i, (arg, dim) in enumerate(zip(args, in_dims, strict=True))
    ]
    return call(*fronted)


def as_loop(call: Callable, batch_size: int, in_dims, args):
    """One call for each sample: what numbers its elements, or is seeded by sample, cannot be merged."""
    results = []
    for i in range(max(batch_size, 1)):
        sample = [_select(arg, dim, i) for arg, dim in zip(args, in_dims, strict=True)]
        results.append(call(*sample))
    if isinstance(results[0], Tensor):
        return torch.stack(results)[:batch_size], 0
    stacked = tuple(torch.stack(parts)[:batch_size] for parts in zip(*results, strict=True))
    return stacked, _dims(stacked, True)


def _select(arg, dim, index: int):
    """One sample; of none, one that shows the shapes."""
    if not isinstance(arg, Tensor) or dim is None:
        return arg
    return arg.select(dim, index) if arg.shape[dim] else arg.new_zeros(arg.shape[:dim] + arg.shape[dim + 1 :])


def _logical_ndim(tensor: Tensor, dim: int | None) -> int:
    return tensor.dim() - (dim is not None)


def _to_front(tensor: Tensor, dim: int | None, ndim: int, per_sample: bool, batch_size: int) -> Tensor:
    if dim is None:
        if not per_sample:
            return tensor
        tensor, dim = tensor.expand(batch_size, *tensor.shape), 0
    tensor = tensor.movedim(dim, 0)
    return tensor.reshape(batch_size, *[1] * (ndim - tensor.dim() + 1), *tensor.shape[1:])


def _dims(results, *mapped: bool):
    """Where the mapped dimension is in each result, in front; `mapped` is for each, or for all."""
    if isinstance(results, Tensor):
        return 0 if mapped[0] else None
    return tuple(0 if is_mapped else None for is_mapped in (mapped if len(mapped) > 1 else mapped * len(results)))
