"""Weights that may need a gradient: operators give theirs none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..formulas.elements import sum_event


def may_need_grad(tensor: Tensor | None) -> bool:
    """Whether a gradient may be asked for; inside torch.func's transforms `requires_grad` does not tell."""
    if tensor is None or not tensor.is_floating_point():
        return False
    return tensor.requires_grad or torch._C._are_functorch_transforms_active()


def summed(call: Callable[[Tensor | None, int], Tensor], weight: Tensor | None, event_ndim: int) -> Tensor:
    """`call(weight, event_ndim)`; a weight that may need a gradient is multiplied here instead."""
    if weight is None or not may_need_grad(weight):
        return call(weight, event_ndim)
    return sum_event(call(weight != 0, 0) * weight, event_ndim)
