"""The noise of a seed as a tensor of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_STANDARD = ("log_var", 0.0, -1.0, 1.0)  # how a log-variance of 0 is read; finite, as exports want it


def stream(seed: Tensor, zero: Tensor, shape: Sequence[int], num_samples: int | torch.SymInt) -> Tensor:
    """[num_samples, *shape], made by a kernel; `zero` is 0-d, and says dtype and device."""
    zeros = zero.expand(shape)
    eps: Tensor = torch.ops.fastvae.rsample.default(zeros, zeros, seed, None, num_samples, *_STANDARD)
    return eps
