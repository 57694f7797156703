"""The noise of a seed as a tensor of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, sample_shape
from ..formulas import noise as formulas
from ._contract import Contract, parse

if TYPE_CHECKING:
    from ._operator import Operator

# The first `count` normals of the stream, float32. Little goes in, since a step calls it once, out of cold caches.
NORMALS = Contract(
    "normals",
    parse("Tensor seed, SymInt count"),
    "Tensor",
    fake=lambda seed, count: seed.new_empty(count, dtype=torch.float32),
    formula=formulas.normals,
)


def stream(operator: Operator, given: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """What the operator draws of the seed that it is `given`, for operands of this shape; in its arithmetic."""
    z_shape = sample_shape(shape, given.get("num_samples", 0))
    eps: Tensor = NORMALS.call(given["seed"], math.prod(z_shape))
    return eps.reshape(z_shape).to(accumulate_dtype(*operator.shaped(given)))
