"""Losses in one pass: a likelihood's sum, and in the same pass the gradients that its backward would compute.

Where one number is the gradient of every row (a sum or mean over the batch), the gradients are known up to that number
while the operands are in registers: forward and backward together read each operand once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape
from ..formulas import objective
from ._autograd import fitted, gradient_range, plain_apply
from ._contract import Contract, parse, tensors
from ._dtensor import ready
from ._operator import Operator

# Multiplies `grad` by -upstream, unless that is 1; in a kernel, so that nobody waits for the number.
RESCALE = Contract(
    "rescale_",
    parse("Tensor(a!) grad, Tensor upstream"),
    "()",
    fake=lambda grad, upstream: None,
    formula=objective.rescale_,
)


def one_pass_contract(operator: Operator) -> Contract:
    """`name_one_pass(arguments..., factor, needs) -> (total, gradients...)`.

    total = factor * the operator; the gradients are those of -total, which is what a loss usually holds. Each row of a
    batch has its own total, and `event_ndim` counts all dimensions where there is one for all.
    """
    arguments = (*operator.arguments, *parse("float factor, bool[] needs"))

    def fake(*args: Any) -> tuple[Tensor, ...]:
        given = contract.named(args)
        shaped = operator.shaped(given)
        batch = batch_shape(broadcast_shape(*shaped), given["event_ndim"])
        total = args[0].new_empty(batch, dtype=accumulate_dtype(*shaped))
        return total, *operator.empty_grads(given)

    returns = tensors(1 + len(operator.differentiable))
    contract = Contract(f"{operator.name}_one_pass", arguments, returns, fake, operator.formula.one_pass)
    return contract


def total(
    operator: Any, one_pass: Contract, plain: Callable[..., Tensor] | None = None, negative: bool = False
) -> Callable:
    """(factor, tensors..., constants...) -> factor * the operator summed over all elements, differentiable.

    `negative`: of that the negative, with no node of its own. `plain` is the sum where gradients are not made ahead;
    None: the operator itself, whose event is all dimensions.

    Kept for backward: the operator's arguments, and until the first backward the gradients, which it gives away; a
    second one computes them again.
    """
    call_one_pass, rescale_ = one_pass.call, RESCALE.call
    plain, gradients = plain or operator.apply, operator.gradients
    num_tensors, first, last = len(operator.tensors), *gradient_range(operator)
    before, behind = (None,) * (2 + first), (None,) * (num_tensors - last)

    class Total(Function):
        @staticmethod
        def forward(ctx, factor, constants, *tensors):
            needs = ctx.needs_input_grad[2 + first : 2 + last]
            result, *ctx.grads = call_one_pass(*tensors, *constants, factor, needs)
            ctx.save_for_backward(*tensors)
            ctx.factor, ctx.constants = factor, constants
            return -result if negative else result

        @staticmethod
        def backward(ctx, upstream):
            tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[2 + first : 2 + last]
            grads, ctx.grads = ctx.grads, None
            upstream = -upstream if negative else upstream
            if grads is None or torch.is_grad_enabled() or is_batched(upstream):
                # A second time, to be differentiated again, or for a batch of upstream gradients: from the operands.
                results = gradients((upstream * ctx.factor,), tensors, ctx.constants, needs)
            else:
                for grad, need in zip(grads, needs, strict=True):
                    if need:
                        rescale_(grad, upstream)
                results = fitted(grads, tensors[first:last], needs)
            return *before, *results, *behind

    apply = plain_apply(Total)

    def call(factor, *args):
        if not _gains(args[first:last]):
            return _times(plain(*args), -factor if negative else factor)
        ready()
        return apply(factor, args[num_tensors:], *args[:num_tensors])

    return call


class RowWise:
    """An operator whose gradients are made with its values, for torch.compile: what is left of backward is a product
    with the gradient of each row, which it fuses with what comes next."""

    def __init__(self, operator: Operator, one_pass: Contract) -> None:
        call_one_pass, plain = one_pass.call, operator.forward.call
        first, last = gradient_range(operator)
        before, behind = (None,) * first, (None,) * (len(operator.arguments) - last)
        where = operator.constants.index("event_ndim") - len(operator.constants)

        class Rows(Function):
            @staticmethod
            def forward(ctx, *args):
                needs = ctx.needs_input_grad[first:last]
                if not any(needs):
                    return plain(*args)
                result, *grads = call_one_pass(*args, -1.0, needs)
                ctx.event_ndim, ctx.needs = args[where], needs
                ctx.save_for_backward(*fitted(grads, args[first:last], needs))
                return -result

            @staticmethod
            def backward(ctx, upstream):
                upstream = upstream.reshape([*upstream.shape, *[1] * ctx.event_ndim])
                results = [None if g is None else (upstream * g).to(g.dtype) for g in ctx.saved_tensors]
                return *before, *results, *behind

        self.operands, self.apply = operator.differentiable, Rows.apply

    def serves(self, given: dict[str, Any], shape: torch.Size) -> bool:
        """Where no gradient is shared by rows, nor rounded to half precision before the product."""
        batch = batch_shape(shape, given["event_ndim"])
        wanted = [given[name] for name in self.operands if given[name].requires_grad]
        return all(
            t.dtype in (torch.float32, torch.float64) and (not batch or _leading(t, shape, len(batch)) == batch)
            for t in wanted
        )


def _leading(tensor: Tensor, shape: torch.Size, batch_ndim: int) -> torch.Size | None:
    """The batch dimensions of an operand, None where it has fewer than the others."""
    return tensor.shape[:batch_ndim] if tensor.dim() == len(shape) else None


def is_batched(upstream: Tensor) -> bool:
    """Under torch.func.vmap, or one of autograd's own."""
    return torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(upstream)


def _times(total: Tensor, factor: float) -> Tensor:
    if factor == 1.0:
        return total
    if torch._C._are_functorch_transforms_active():
        return (total.reshape(1) * factor).reshape(())  # torch multiplies no mapped number where none is mapped
    return total * factor


def _gains(operands: tuple[Tensor, ...]) -> bool:
    """Whether gradients made ahead are worth it: no compiler traces them into one pass of its own, and see `wanted`."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
        return False
    if forward_ad._current_level >= 0:
        return False
    return wanted(t for t in operands if t is not None and t.requires_grad)


def wanted(operands: Iterable[Tensor]) -> bool:
    """Whether there are any, and none is float16, which may lose in gradients made ahead what a loss that is scaled up
    later would have kept."""
    dtypes = {operand.dtype for operand in operands}
    return bool(dtypes) and torch.float16 not in dtypes
