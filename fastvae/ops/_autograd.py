"""The autograd.Function that stands outside an operator, and the one around its backward for second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import Function

from ..backends import reference
from ._operator import Operator, sum_to_operand


def differentiable(operator: Operator) -> Callable:
    """`operator` as a function of tensors that autograd, torch.func and torch.compile differentiate.

    Saved for backward: the operator's own tensor arguments, nothing else.
    """
    backward_of_backward = _backward_function(operator)
    num_tensors, num_grads = len(operator.tensors), operator.differentiable

    class Forward(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args):
            return operator.forward(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[:num_tensors])
            ctx.constants = inputs[num_tensors:]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *grads):
            tensors, needs = ctx.saved_tensors, list(ctx.needs_input_grad[:num_grads])
            twice = torch.is_grad_enabled() and not torch.compiler.is_compiling()
            call = backward_of_backward if twice else operator.backward
            results = call(*grads, *tensors, *ctx.constants, needs)
            results = results if num_grads > 1 else (results,)
            fitted = [
                sum_to_operand(g, t) if need else None for g, t, need in zip(results, tensors, needs, strict=False)
            ]
            return *fitted, *[None] * (num_tensors - num_grads + len(ctx.constants))

    Forward.__name__ = Forward.__qualname__ = operator.name
    return Forward.apply


def _backward_function(operator: Operator) -> Callable:
    """The backward operator, itself differentiable: its derivative is that of the reference's plain torch formula."""
    num_tensors, num_grads, num_out = len(operator.tensors), operator.differentiable, len(operator.outputs)
    formula = getattr(reference, f"{operator.name}_backward")

    class Backward(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args):
            return operator.backward(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[: num_out + num_tensors])
            ctx.constants = inputs[num_out + num_tensors :]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *cotangents):
            tensors, needs = list(ctx.saved_tensors), ctx.constants[-1]
            active = [i for i, need in enumerate(ctx.needs_input_grad[: num_out + num_grads]) if need]

            def recompute(*values):
                inputs = list(tensors)
                for i, value in zip(active, values, strict=True):
                    inputs[i] = value
                results = formula(*inputs, *ctx.constants)
                results = results if num_grads > 1 else (results,)
                return [r for r, need, c in zip(results, needs, cotangents, strict=True) if need and c is not None]

            given = [c for c, need in zip(cotangents, needs, strict=True) if need and c is not None]
            _, vjp = torch.func.vjp(recompute, *[tensors[i] for i in active])
            grads = dict(zip(active, vjp(given), strict=True))
            return tuple(grads.get(i) for i in range(num_out + num_tensors + len(ctx.constants)))

    Backward.__name__ = Backward.__qualname__ = f"{operator.name}_backward"
    return Backward.apply
