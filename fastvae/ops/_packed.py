"""An operator of mean and scale that lie packed in one tensor, as a function of that: it gets one packed gradient.

Out of `chunk`, autograd would have two gradients go through views and a node of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

from ._autograd import plain_apply

if TYPE_CHECKING:
    from ._operator import Operator


def serves(packed: Tensor) -> bool:
    """Whether autograd alone is at work, on an ordinary tensor; all else sees the halves."""
    ordinary = type(packed) in (Tensor, torch.nn.Parameter)
    return ordinary and not (
        is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


def packed(operator: Operator) -> Callable[..., Any]:
    """(packed, dim, the operator's further arguments): along `dim` the mean comes first, then the scale."""
    num_tensors = len(operator.tensors) - 2

    class Packed(Function):
        @staticmethod
        def forward(packed, dim, *further):
            return operator.forward.call(*packed.chunk(2, dim), *further)

        @staticmethod
        def setup_context(ctx, inputs, output):
            packed, ctx.dim, *further = inputs
            ctx.save_for_backward(packed, *further[:num_tensors])
            ctx.constants = further[num_tensors:]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *grads):
            packed, *further = ctx.saved_tensors
            halves = packed.chunk(2, ctx.dim)
            gradients = operator.gradients(grads, (*halves, *further), ctx.constants, (True, True))
            return torch.cat(gradients, ctx.dim), *[None] * (len(ctx.needs_input_grad) - 1)

    Packed.__name__ = Packed.__qualname__ = f"{operator.name}_packed"
    return plain_apply(Packed)
