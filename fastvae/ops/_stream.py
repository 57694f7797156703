"""The noise of a seed as a tensor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._shapes import accumulate_dtype

if TYPE_CHECKING:
    from ._operator import Operator

_STANDARD = ("log_var", 0.0, -1.0, 1.0)  # how a log-variance of 0 is read; finite, as exports want it


def stream(operator: Operator, given: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """Of the seed that an operator is `given`, for operands of this shape; made by a kernel, in its arithmetic."""
    dtype = accumulate_dtype(*operator.shaped(given))
    zeros = given[operator.operands[0]].new_zeros((), dtype=dtype).expand(shape)
    count = given.get("num_samples", 0)
    eps: Tensor = torch.ops.fastvae.rsample.default(zeros, zeros, given["seed"], None, count, *_STANDARD)
    return eps
