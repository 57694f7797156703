"""The autograd.Function that stands outside an operator, and the one around its backward for second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from ..backends import reference
from ._operator import Operator, sum_to_operand


def differentiable(operator: Operator) -> Callable:
    """`operator` as a function of tensors that autograd, torch.func and torch.compile differentiate.

    Saved for backward: the operator's own tensor arguments, nothing else.
    """
    # Bound here: torch.compile follows the operators themselves, and not the object that declares them.
    forward_operator, gradients = operator.forward, gradients_of(operator)
    num_tensors, num_grads = len(operator.tensors), operator.differentiable
    no_grads = (None,) * (num_tensors - num_grads + operator.constants.count(",") + 1)

    class Forward(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args):
            return forward_operator(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[:num_tensors])
            ctx.constants = inputs[num_tensors:]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *grads):
            return *gradients(grads, ctx.saved_tensors, ctx.constants, ctx.needs_input_grad[:num_grads]), *no_grads

    Forward.__name__ = Forward.__qualname__ = operator.name
    # `Function.apply` inspects the signature at each call, which takes longer than a small kernel; its base does not.
    apply, transformed = super(Function, Forward).apply, torch._C._are_functorch_transforms_active

    formula = getattr(reference, operator.name)

    def traced(*args):
        # torch.compile traces no Function inside torch.func's transforms, nor one that has no gradient to give.
        if transformed():
            return formula(*args)
        wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args[:num_grads])
        return Forward.apply(*_distinct(args)) if wanted else forward_operator(*args)

    def call(*args):
        if torch.compiler.is_compiling():
            return traced(*args)
        return Forward.apply(*args) if transformed() else apply(*args)

    return call


def gradients_of(operator: Operator) -> Callable:
    """(gradients of the outputs, tensors, constants, needs) -> the operands' gradients, None where none is needed."""
    backward_operator, backward_of_backward = operator.backward, _backward_function(operator)
    num_grads = operator.differentiable

    def gradients(grads, tensors, constants, needs):
        twice = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        call = backward_of_backward if twice else backward_operator
        results = call(*grads, *tensors, *constants, needs)
        return fitted(results if num_grads > 1 else (results,), tensors, needs)

    return gradients


def fitted(grads, tensors, needs):
    """What a backward operator gave, in the operands' shapes and dtypes."""
    return [sum_to_operand(g, t) if need else None for g, t, need in zip(grads, tensors, needs)]  # noqa: B905


def _distinct(args):
    """Views in place of what is passed twice, which torch.compile does not trace through an autograd.Function."""
    return [
        arg.view_as(arg) if isinstance(arg, Tensor) and any(arg is earlier for earlier in args[:i]) else arg
        for i, arg in enumerate(args)
    ]


def _backward_function(operator: Operator) -> Callable:
    """The backward operator, itself differentiable: its derivative is that of the reference's plain torch formula."""
    backward_operator = operator.backward
    num_tensors, num_grads, num_out = len(operator.tensors), operator.differentiable, len(operator.outputs)
    formula = getattr(reference, f"{operator.name}_backward")

    class Backward(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args):
            return backward_operator(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[: num_out + num_tensors])
            ctx.constants = inputs[num_out + num_tensors :]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *cotangents):
            tensors, needs = list(ctx.saved_tensors), ctx.constants[-1]
            active = [i for i, need in enumerate(ctx.needs_input_grad[: num_out + num_grads]) if need]

            wanted = [i for i, need in enumerate(needs) if need and cotangents[i] is not None]

            def recompute(*values):
                inputs = list(tensors)
                for i, value in zip(active, values, strict=True):
                    inputs[i] = value
                results = formula(*inputs, *ctx.constants)
                results = results if num_grads > 1 else (results,)
                return [results[i] for i in wanted]

            grads = {}
            if wanted:
                _, vjp = torch.func.vjp(recompute, *[tensors[i] for i in active])
                grads = dict(zip(active, vjp([cotangents[i] for i in wanted]), strict=True))
            return tuple(grads.get(i) for i in range(num_out + num_tensors + len(ctx.constants)))

    Backward.__name__ = Backward.__qualname__ = f"{operator.name}_backward"
    return Backward.apply
