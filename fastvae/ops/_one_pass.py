"""Losses in one pass: a likelihood's sum, and in the same pass the gradients that its backward would compute.

Where one number is the gradient of every row (a sum or mean over the batch), the gradients are known up to that number
while the operands are in registers: forward and backward together read each operand once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function

from .._shapes import accumulate_dtype, broadcast_shape
from ._autograd import differentiable, fitted, gradients_of
from ._operator import Operator, empty_grad, library

# Multiplies `grad` by -upstream, unless that is 1; in a kernel, so that nobody waits for the number.
library.define("rescale_(Tensor(a!) grad, Tensor upstream) -> ()")
torch.library.register_fake("fastvae::rescale_", lambda grad, upstream: None, lib=library)


@dataclass(frozen=True, eq=False)
class OnePass:
    """`name_one_pass(tensors..., constants..., share, needs) -> (total, gradients...)` of the operator `name`.

    total = share * the operator summed over all elements; the gradients are those of -total, which is what a loss
    usually holds. `event_ndim` among the constants counts all dimensions.
    """

    of: Operator

    def __post_init__(self) -> None:
        arguments = ", ".join([*self.of.tensors, self.constants])
        returns = ", ".join(["Tensor"] * (1 + self.of.differentiable))
        library.define(f"{self.name}({arguments}) -> ({returns})")
        torch.library.register_fake(f"fastvae::{self.name}", self.fake, lib=library)

    @property
    def tensors(self) -> tuple[str, ...]:
        return self.of.tensors

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*self.of.outputs, *(f"grad_{text.split()[-1]}" for text in self.tensors[: self.of.differentiable]))

    @property
    def shaped(self) -> int:
        return self.of.shaped

    @property
    def event_ndim(self) -> Callable:
        return self.of.event_ndim

    @property
    def name(self) -> str:
        return f"{self.of.name}_one_pass"

    @property
    def constants(self) -> str:
        return f"{self.of.constants}, float share, bool[] needs"

    @property
    def forward(self) -> Callable:
        return getattr(torch.ops.fastvae, self.name).default

    def fake(self, *args) -> tuple[Tensor, ...]:
        shaped, needs = args[: self.of.shaped], args[-1]
        shape, dtype = broadcast_shape(*shaped), accumulate_dtype(*shaped)
        total = shaped[1].new_empty((), dtype=dtype)
        operands = zip(shaped[: self.of.differentiable], needs, strict=True)
        return total, *(empty_grad(t, shape, len(shape), dtype) if n else shaped[0].new_empty(0) for t, n in operands)


def total(one_pass: OnePass) -> Callable:
    """(share, tensors..., constants...) -> share * the operator summed over all elements, differentiable.

    Kept for backward: the operator's arguments, and until the first backward the gradients, which it gives away; a
    second one computes them again.
    """
    operator, call_one_pass = one_pass.of, one_pass.forward
    num_tensors, num_grads = len(operator.tensors), operator.differentiable
    plain, gradients = differentiable(operator), gradients_of(operator)

    class Total(Function):
        @staticmethod
        def forward(ctx, share, *args):
            needs = ctx.needs_input_grad[1 : 1 + num_grads]
            result, *ctx.grads = call_one_pass(*args, share, needs)
            ctx.save_for_backward(*args[:num_tensors])
            ctx.share, ctx.constants = share, args[num_tensors:]
            return result

        @staticmethod
        def backward(ctx, upstream):
            tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[1 : 1 + num_grads]
            grads, ctx.grads = ctx.grads, None
            if grads is None or torch.is_grad_enabled():
                # A second time, or to be differentiated again: from the operands.
                results = gradients((upstream * ctx.share,), tensors, ctx.constants, needs)
            else:
                for grad, need in zip(grads, needs, strict=True):
                    if need:
                        torch.ops.fastvae.rescale_.default(grad, upstream)
                results = fitted(grads, tensors, needs)
            return None, *results, *(None,) * (num_tensors - num_grads + len(ctx.constants))

    def call(share, *args):
        if not _gains(args[:num_grads]):
            return plain(*args) * share
        return Total.apply(share, *args)

    return call


def _gains(operands: tuple[Tensor, ...]) -> bool:
    """Whether gradients made ahead are worth it: they are wanted, no compiler traces them into one pass of its own, and
    none is float16, which may lose in it what a loss scaled up later would have kept."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
        return False
    wanted = [t for t in operands if t is not None and t.requires_grad]
    return bool(wanted) and all(t.dtype != torch.float16 for t in wanted)
