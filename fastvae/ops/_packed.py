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

from ._autograd import fitted, plain_apply
from ._contract import Contract, parse
from ._one_pass import is_batched

if TYPE_CHECKING:
    from ._operator import Operator


def serves(packed: Tensor) -> bool:
    """Whether autograd alone is at work, on an ordinary tensor; all else sees the halves."""
    ordinary = type(packed) in (Tensor, torch.nn.Parameter)
    return ordinary and not (
        is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


class Packed:
    """`apply(constants, packed, seed, eps)`, constants being `dim` and the operator's: along `dim` of `packed` the mean
    comes first, then the scale. `backward` writes the gradients of both where they lie."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.further = operator.arguments[2:]  # behind mean and scale
        of_tensors = [argument for argument in self.further if argument.is_tensor]
        of_numbers = [argument for argument in self.further if not argument.is_tensor]
        grads = parse(", ".join(f"Tensor? grad_{output}" for output in operator.outputs))
        self.num_grads = len(grads)
        self.backward = Contract(
            f"{operator.name}_packed_backward",
            (*grads, *parse("Tensor packed"), *of_tensors, *parse("int dim"), *of_numbers),
            "Tensor",
            fake=lambda *args: torch.empty_like(args[len(grads)]),
            formula=self.in_halves(operator.formula.backward),
        )
        self.apply = self._function()

    def in_halves(self, backward: Callable[..., Any]) -> Callable[..., Tensor]:
        """`backward`, that of the operator on some backend, for what lies packed."""
        first, tensors = self.num_grads, self.backward_tensors

        def call(*args: Any) -> Tensor:
            grads, (packed, *further), (dim, *constants) = args[:first], args[first:tensors], args[tensors:]
            halves = packed.chunk(2, dim)
            results = backward(*grads, *halves, *further, *constants, [True, True])
            return torch.cat(fitted(results, halves, (True, True)), dim)

        return call

    @property
    def backward_tensors(self) -> int:
        return self.num_grads + 1 + sum(argument.is_tensor for argument in self.further)

    def _function(self) -> Callable[..., Any]:
        forward, backward, gradients = self.operator.forward.call, self.backward.call, self.operator.gradients

        class PackedOperator(Function):
            @staticmethod
            def forward(ctx, constants, packed, *further):
                ctx.save_for_backward(packed, *further)
                ctx.constants = constants
                ctx.set_materialize_grads(False)
                return forward(*packed.chunk(2, constants[0]), *further, *constants[1:])

            @staticmethod
            def backward(ctx, *grads):
                packed, *further = ctx.saved_tensors
                dim, *constants = ctx.constants
                if torch.is_grad_enabled() or any(g is not None and is_batched(g) for g in grads):
                    results = gradients(grads, (*packed.chunk(2, dim), *further), constants, (True, True))
                    grad = torch.cat(results, dim)
                else:
                    grad = backward(*grads, packed, *further, dim, *constants)
                return None, grad, *[None] * len(further)

        PackedOperator.__name__ = PackedOperator.__qualname__ = f"{self.operator.name}_packed"
        return plain_apply(PackedOperator)
