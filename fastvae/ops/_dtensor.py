"""Operators of `torch.distributed.tensor.DTensor` operands: `_sharding` has the rule, this file when it comes in.

`torch.distributed` is imported by whoever makes the first DTensor, not by this package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._shapes import is_distributed
from ._contract import CONTRACTS, library

_registered: set[str] = set()


def ready() -> None:
    """Before a call: until somebody has imported DTensor there can be none among its arguments."""
    if len(_registered) < len(CONTRACTS) and "torch.distributed.tensor" in sys.modules:
        _register()


def _register() -> None:
    from torch.distributed.tensor import DTensor

    from ._one_pass import RESCALE
    from ._operator import OPERATORS
    from ._rows import ROW_LIKELIHOODS
    from ._sharding import rescale, rule

    declared = OPERATORS | ROW_LIKELIHOODS
    rules = {c.name: rule(operator, c) for operator in declared.values() for c in operator.contracts}
    rules[RESCALE.name] = rescale
    for name in CONTRACTS.keys() - _registered:
        if name in rules:
            torch.library.register_torch_dispatch(f"fastvae::{name}", DTensor, rules[name], lib=library)
        _registered.add(name)


def replicated(tensor: Tensor, beside: Iterable[Any]) -> Tensor:
    """What every process has, as a DTensor where one stands beside it."""
    like = next(filter(is_distributed, beside), None)
    if like is None:
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    mesh = like.device_mesh
    return DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)


def agreed(seed: Tensor, like: Any) -> Tensor:
    """The first process's seed, where `like` is a DTensor: its replicas shall get the same noise."""
    if not is_distributed(like):
        return seed
    from torch.distributed.tensor import DTensor, Partial

    mesh = like.device_mesh
    mine = torch.zeros_like(seed) if any(mesh.get_coordinate() or ()) else seed
    return DTensor.from_local(mine, mesh, [Partial()] * mesh.ndim, run_check=False).full_tensor()
