"""The autograd.Function that stands outside an operator, and the one around its backward for second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

from .._shapes import sum_to_operand
from ._dtensor import ready
from ._traced import traced

if TYPE_CHECKING:
    from ._operator import Operator


def differentiable(operator: Operator) -> Callable:
    """`operator` as a function of tensors that autograd, torch.func and torch.compile differentiate."""
    kernels = function_of(operator, operator.forward.call, operator.gradients)
    node = traced(operator, kernels, function_of(operator, operator.formula.forward, formula_gradients_of(operator)))
    formula, forward = operator.formula.forward, operator.forward.call
    apply, num_tensors = _eager(operator), len(operator.tensors)
    transformed = torch._C._are_functorch_transforms_active

    def call(*args):
        if is_compiling():
            return node(*args)
        ready()
        if forward_ad._current_level >= 0:
            return formula(*args)  # plain torch has the derivatives of forward mode
        if transformed():
            return kernels.apply(*args)
        tensors = args[:num_tensors]
        return apply(args[num_tensors:], *tensors) if has_graph(tensors) else forward(*args)

    return call


def has_graph(tensors: Iterable[torch.Tensor | None]) -> bool:
    """Whether autograd asks for a node. One that nobody asks for takes as long as a small kernel."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def plain_apply(function: type[Function]) -> Callable[..., Any]:
    """`apply` where no transform of torch.func is at work: `Function.apply` inspects the signature at each call, which
    takes longer than a small kernel; its base does not."""
    return super(Function, function).apply  # type: ignore[misc]


def _eager(operator: Operator) -> Callable[..., Any]:
    """`function_of` for autograd alone, (constants, tensors...): one frame, and all constants are one argument."""
    forward_operator, gradients = operator.forward.call, operator.gradients
    first, last = gradient_range(operator)
    before, behind = (None,) * (1 + first), (None,) * (len(operator.tensors) - last)

    class Eager(Function):
        @staticmethod
        def forward(ctx, constants, *tensors):
            ctx.save_for_backward(*tensors)
            ctx.constants = constants
            ctx.set_materialize_grads(False)
            return forward_operator(*tensors, *constants)

        @staticmethod
        def backward(ctx, *grads):
            needs = ctx.needs_input_grad[1 + first : 1 + last]
            return *before, *gradients(grads, ctx.saved_tensors, ctx.constants, needs), *behind

    Eager.__name__ = Eager.__qualname__ = operator.name
    return plain_apply(Eager)


def function_of(operator: Any, forward_operator: Callable, gradients: Callable) -> type[Function]:
    """Saved for backward: the operator's own tensor arguments, nothing else."""
    num_tensors, first, last = len(operator.tensors), *gradient_range(operator)
    before, behind = (None,) * first, (None,) * (len(operator.arguments) - last)

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
            needs = ctx.needs_input_grad[first:last]
            return *before, *gradients(grads, ctx.saved_tensors, ctx.constants, needs), *behind

    Forward.__name__ = Forward.__qualname__ = operator.name
    return Forward


def gradient_range(operator: Any) -> tuple[int, int]:
    """Where the arguments that get gradients stand."""
    first = operator.tensors.index(operator.differentiable[0])
    return first, first + len(operator.differentiable)


def gradients_of(operator: Operator) -> Callable:
    """(gradients of the outputs, tensors, constants, needs) -> the operands' gradients, None where none is needed."""
    backward_operator, backward_of_backward = operator.backward.call, _backward_function(operator)
    first, last = gradient_range(operator)

    def gradients(grads, tensors, constants, needs):
        twice = torch.is_grad_enabled() and not is_compiling()
        call = backward_of_backward if twice else backward_operator
        results = call(*grads, *tensors, *constants, needs)
        return fitted(results if last - first > 1 else (results,), tensors[first:last], needs)

    return gradients


def formula_gradients_of(operator: Operator) -> Callable:
    """The same in plain torch."""
    formula, (first, last) = operator.formula.backward, gradient_range(operator)

    def gradients(grads, tensors, constants, needs):
        results = formula(*grads, *tensors, *constants, needs)
        return fitted(results if last - first > 1 else (results,), tensors[first:last], needs)

    return gradients


def fitted(grads, operands, needs):
    """What a backward operator gave, in the operands' shapes and dtypes."""
    return [sum_to_operand(g, t) if need else None for g, t, need in zip(grads, operands, needs)]  # noqa: B905


def _backward_function(operator: Operator) -> Callable:
    """The backward operator, itself differentiable: its derivative is that of its formula in plain torch."""
    backward_operator, formula = operator.backward.call, operator.formula.backward
    num_tensors, num_arguments = operator.backward.num_tensors, len(operator.backward.arguments)
    last_active = len(operator.outputs) + gradient_range(operator)[1]

    class Backward(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args):
            return backward_operator(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[:num_tensors])
            ctx.constants = inputs[num_tensors:]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, *cotangents):
            tensors, needs = list(ctx.saved_tensors), ctx.constants[-1]
            active = [i for i, need in enumerate(ctx.needs_input_grad[:last_active]) if need]
            wanted = [i for i, need in enumerate(needs) if need and cotangents[i] is not None]

            def recompute(*values):
                inputs = list(tensors)
                for i, value in zip(active, values, strict=True):
                    inputs[i] = value
                results = formula(*inputs, *ctx.constants)
                results = results if len(needs) > 1 else (results,)
                return [sum_to_operand(results[i], cotangents[i]) for i in wanted]  # DTensors come summed

            grads = {}
            if wanted:
                _, vjp = torch.func.vjp(recompute, *[tensors[i] for i in active])
                grads = dict(zip(active, vjp([cotangents[i] for i in wanted]), strict=True))
            return tuple(grads.get(i) for i in range(num_arguments))

    Backward.__name__ = Backward.__qualname__ = operator.backward.name
    return Backward.apply
