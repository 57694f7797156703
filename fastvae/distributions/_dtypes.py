"""The dtypes that torch gives: kernels return float32 sums of bfloat16 operands, torch's distributions do not."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def as_torch(result: Tensor, *operands: Tensor) -> Tensor:
    """In the dtype that the operands promote to."""
    return result.to(functools.reduce(torch.promote_types, (operand.dtype for operand in operands)))
