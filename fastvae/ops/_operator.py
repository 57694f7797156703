"""What every operator shares: registration, shape rules, vmap.

An operator is declared once, as data. From that declaration come two dispatcher operators, `name` and
`name_backward`, their fake (meta) kernels and their vmap rules. The numbers come from `fastvae.backends`, the
graph from `_autograd`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape, is_shared_by_event, sum_last
from ._vmap import as_batch, as_loop

library = torch.library.Library("fastvae", "DEF")

# How the second parameter of a Gaussian is read; the same four arguments close every schema that has one.
SCALE = "str scale_as, float scale_eps, float clamp_lo, float clamp_hi"


def empty_grad(like: Tensor, shape: Sequence[int], event_ndim: int, dtype: torch.dtype) -> Tensor:
    """Output of a backward operator for one operand.

    Full-shape operands get their own dtype and layout. A broadcast operand's gradient stays in the accumulation dtype:
    already summed over the event where one value serves all of it, else at full shape; `sum_to_operand` ends the sum.
    """
    if tuple(like.shape) == tuple(shape):
        return torch.empty_like(like)
    if is_shared_by_event(like, event_ndim):
        shape = [*batch_shape(shape, event_ndim), *[1] * event_ndim]
    return like.new_empty(shape, dtype=dtype)


def sum_to_operand(grad: Tensor, operand: Tensor) -> Tensor:
    if grad.shape != operand.shape:
        lead = grad.dim() - operand.dim()
        expanded = [i for i in range(grad.dim()) if i < lead or operand.shape[i - lead] == 1]
        grad = sum_last(grad.flatten()) if operand.numel() == 1 else grad.sum(expanded, keepdim=True)
        grad = grad.reshape(operand.shape)
    return grad if grad.dtype == operand.dtype else grad.to(operand.dtype)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: `name(tensors..., constants...) -> outputs`.

    `tensors` and `constants` are schema text in the dispatcher's language; `outputs` names the results. The first
    `shaped` tensors broadcast against each other, those behind them (seed, noise) stand apart; the first
    `differentiable` get gradients. `event_ndim` reads from the constants how many trailing dimensions are summed.
    `numbered` operators draw noise by element index: vmap may not merge samples into one call.
    """

    name: str
    tensors: tuple[str, ...]
    constants: str
    outputs: tuple[str, ...]
    shaped: int
    differentiable: int
    fake: Callable[..., Tensor | tuple[Tensor, ...]]
    event_ndim: Callable[[Sequence], int]
    numbered: bool = False

    def __post_init__(self) -> None:
        grads = [f"Tensor? grad_{output}" for output in self.outputs]
        forward = ", ".join([*self.tensors, self.constants])
        backward = ", ".join([*grads, *self.tensors, self.constants, "bool[] needs"])
        library.define(f"{self.name}({forward}) -> {_returns(len(self.outputs))}")
        library.define(f"{self.name}_backward({backward}) -> {_returns(self.differentiable)}")
        self._register(self.name, self.fake, self._vmap)
        self._register(f"{self.name}_backward", self.fake_backward, self._vmap_backward)

    def _register(self, name: str, fake: Callable, vmap: Callable) -> None:
        torch.library.register_fake(f"fastvae::{name}", fake, lib=library)
        torch.library.register_vmap(f"fastvae::{name}", vmap, lib=library)

    @property
    def forward(self) -> Callable:
        return getattr(torch.ops.fastvae, self.name).default

    @property
    def backward(self) -> Callable:
        return getattr(torch.ops.fastvae, f"{self.name}_backward").default

    def fake_backward(self, *args):
        tensors = args[len(self.outputs) :][: len(self.tensors)]
        constants = args[len(self.outputs) + len(self.tensors) : -1]
        shaped = tensors[: self.shaped]
        shape, dtype = broadcast_shape(*shaped), accumulate_dtype(*shaped)
        event_ndim = self.event_ndim(constants)
        grads = tuple(
            empty_grad(tensor, shape, event_ndim, dtype) if need else tensors[0].new_empty(0)
            for tensor, need in zip(tensors[: self.differentiable], args[-1], strict=True)
        )
        return grads if len(grads) > 1 else grads[0]

    def _vmap(self, info, in_dims, *args):
        if self.numbered:
            return as_loop(self.forward, info.batch_size, in_dims, args)
        return as_batch(self.forward, len(self.tensors), False, info.batch_size, in_dims, args)

    def _vmap_backward(self, info, in_dims, *args):
        if self.numbered:
            return as_loop(self.backward, info.batch_size, in_dims, args)
        # A gradient of the output has the output's dimensions, not the operands': only the batch is put in front.
        count = len(self.outputs)
        grads = [
            g if g is None else (g.expand(info.batch_size, *g.shape) if d is None else g.movedim(d, 0))
            for g, d in zip(args[:count], in_dims[:count], strict=True)
        ]
        return as_batch(
            lambda *rest: self.backward(*grads, *rest),
            len(self.tensors),
            True,
            info.batch_size,
            in_dims[count:],
            args[count:],
        )


def _returns(count: int) -> str:
    return "Tensor" if count == 1 else "(" + ", ".join(["Tensor"] * count) + ")"
