"""A linear layer and the likelihood of what it gives as one operator: the parameters are never whole in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

from .._shapes import accumulate_dtype, broadcast_shape, is_distributed, sum_to_operand
from ..formulas.elements import sum_event
from ..formulas.linear import linear_gradient
from . import _traced
from ._autograd import fitted, function_of, gradient_range
from ._contract import composed, library, parse
from ._in_chunks import InChunks
from ._likelihood import Likelihood
from ._one_pass import is_batched, total, wanted

LAYER = ("input", "weight", "bias")


class LinearLikelihood:
    """log p(x|z) of a likelihood whose first parameter is input @ weight.T + bias, summed over its last dimension.

    `name(x, input, weight, bias, further operands, element_weight, constants) -> log_prob`, [*batch]. The further
    operands and the constants are the likelihood's, `element_weight` is what it calls `weight`. Kernels are the
    likelihood's too: this is the same on every backend. x gets a gradient where the likelihood gives it one.
    """

    outputs = ("log_prob",)

    def __init__(self, likelihood: Likelihood) -> None:
        self.name, self.likelihood = f"linear_{likelihood.name}", likelihood
        self.kernel = likelihood.name
        self.further = likelihood.operands[2:]
        self.of_x = "x" in likelihood.differentiable
        operands = ", ".join(
            [
                "Tensor x, Tensor input, Tensor weight, Tensor? bias",
                *(f"Tensor {name}" for name in self.further),
                "Tensor? element_weight",
            ]
        )
        constants = (a for a in likelihood.arguments if not a.is_tensor and a.name != "event_ndim")
        self.arguments = (*parse(operands), *constants)
        self.tensors = tuple(a.name for a in self.arguments if a.is_tensor)
        self.constants = tuple(a.name for a in self.arguments if not a.is_tensor)
        self.differentiable = tuple(name for name in self.tensors[:-1] if name != "x" or self.of_x)
        self.forward, self.backward, self.one_pass = composed(
            self.name,
            self.arguments,
            len(self.differentiable),
            (self._fake, self._forward),
            (self._fake_backward, self._backward),
            (self._fake_one_pass, self._one_pass),
        )
        self.apply = self._differentiable()
        self._made_ahead = total(self, self.one_pass, self._sum)

    # Its arguments.

    def shaped(self, given: dict[str, Any]) -> list[Tensor | None]:
        """Tensors that broadcast to [*batch, D]."""
        columns, rows = given["weight"].shape[0], given["input"].shape[:-1]
        output = given["weight"].new_empty(()).expand(*rows, columns)
        return [given["x"], output, *(given[name] for name in self.further), given["element_weight"]]

    def of_likelihood(self, given: dict[str, Any], first: Tensor, event_ndim: int = 1) -> tuple[Any, ...]:
        """The likelihood's arguments, `first` its first parameter."""
        further = (given[name] for name in self.further)
        constants = (given[name] for name in self.constants)
        if self.likelihood.of_rows:  # which take a first parameter of full shape only
            first = first.expand(broadcast_shape(first, given["x"]))
        return given["x"], first, *further, given["element_weight"], event_ndim, *constants

    def named_needs(self, needs: Sequence[bool]) -> dict[str, bool]:
        return dict(zip(self.differentiable, needs, strict=True))

    def needs_of_likelihood(self, needs: Sequence[bool]) -> list[bool]:
        need = self.named_needs(needs)
        of_x = [need["x"]] if self.of_x else []
        return [*of_x, any(need[name] for name in LAYER), *(need[name] for name in self.further)]

    def sums(self, given: dict[str, Any], make: Callable[..., Tensor]) -> dict[str, Tensor]:
        """Where each operand's gradient is summed, in the dtype of arithmetic; empty where none is needed."""
        dtype, nothing = accumulate_dtype(*self.shaped(given)), given["input"].new_empty(0)
        needed = self.named_needs(given["needs"])
        keywords = {"dtype": dtype, "memory_format": torch.contiguous_format}
        return {name: make(given[name], **keywords) if need else nothing for name, need in needed.items()}

    # What it computes, and what is known before.

    def _forward(self, *args: Any) -> Tensor:
        return InChunks(self, self.forward.named(args)).log_prob()

    def _fake_backward(self, *args: Any) -> tuple[Tensor, ...]:
        return tuple(self.sums(self.backward.named(args), torch.empty_like).values())

    def _backward(self, *args: Any) -> tuple[Tensor, ...]:
        return InChunks(self, self.backward.named(args)).gradients(args[0])

    def _one_pass(self, *args: Any) -> tuple[Tensor, ...]:
        given = self.one_pass.named(args)
        return InChunks(self, given).one_pass(given["factor"])

    def _fake(self, *args: Any) -> Tensor:
        shaped = self.shaped(self.forward.named(args))
        return args[0].new_empty(broadcast_shape(*shaped)[:-1], dtype=accumulate_dtype(*shaped))

    def _fake_one_pass(self, *args: Any) -> tuple[Tensor, ...]:
        given = self.one_pass.named(args)
        result = args[0].new_empty((), dtype=accumulate_dtype(*self.shaped(given)))
        return result, *self.sums(given, torch.empty_like).values()

    # The same by the likelihood of the whole output, for whatever transforms it and for what is one chunk.

    def pair(self, *args: Any) -> Tensor:
        given = self.forward.named(args)
        log_prob: Tensor = self.likelihood.apply(*self.of_likelihood(given, _output(given)))
        return log_prob

    def _pair_gradients(self, grads: Any, tensors: Any, constants: Any, needs: Any) -> list[Tensor | None]:
        """Differentiable, and under vmap."""
        given = self.forward.named((*tensors, *constants))
        output = _output(given)
        arguments, count = self.of_likelihood(given, output), len(self.likelihood.tensors)
        results = self.likelihood.gradients(
            grads, arguments[:count], arguments[count:], self.needs_of_likelihood(needs)
        )
        of_x, (of_output, *others) = results[: self.of_x], results[self.of_x :]
        of_layer = (None,) * len(LAYER)
        if of_output is not None:
            of_layer = linear_gradient(sum_to_operand(of_output, output), *(given[name] for name in LAYER))
        return self.fitted((*of_x, *of_layer, *others), tensors, needs)

    def fitted(self, grads: Sequence[Any], tensors: Sequence[Any], needs: Sequence[bool]) -> list[Tensor | None]:
        first, last = gradient_range(self)
        return fitted(grads, tensors[first:last], needs)

    # As autograd and torch.compile see it.

    def gradients(self, grads: Any, tensors: Any, constants: Any, needs: Any) -> list[Tensor | None]:
        """(gradient of log_prob, tensors, constants, needs) -> the operands' gradients, None where none is needed."""
        (grad,) = grads
        if grad is None:
            return [None] * len(needs)
        batch = broadcast_shape(*self.shaped(self.forward.named((*tensors, *constants))))[:-1]
        grad = grad.expand(batch)  # one for all, of a total
        if is_batched(grad) or (torch.is_grad_enabled() and not is_compiling()):
            return self._pair_gradients((grad,), tensors, constants, needs)
        return self.fitted(self.backward.call(grad, *tensors, *constants, needs), tensors, needs)

    def _differentiable(self) -> Callable[..., Tensor]:
        kernels = function_of(self, self.forward.call, self.gradients)
        apply: Callable[..., Tensor] = super(Function, kernels).apply  # type: ignore[misc]

        def call(*args: Any) -> Tensor:
            if is_compiling():
                return self.node(*args, False, _traced.node_revision())
            if _is_transformed() or _any_distributed(args):
                return self.pair(*args)
            return apply(*args)

        self.node = self._traced(kernels, _summed(self))
        return call

    def _traced(self, kernels: type[Function], summed: type[Function]) -> Callable[..., Tensor]:
        """One node for torch.compile: the pair, which it fuses, where that is one chunk. `total` sums over the rows."""
        schema = ", ".join(map(str, self.arguments))
        library.define(f"{self.name}.traced({schema}, bool total, str revision) -> Tensor")

        def implementation(*arguments: Any) -> Tensor:
            *args, total, _ = arguments
            given = self.forward.named(args)
            numel = math.prod(broadcast_shape(*self.shaped(given)))
            operands = (given[name] for name in self.differentiable)
            if _is_transformed() or _traced.choice(self, numel, args[0].device.type) == "formula":
                log_prob = self.pair(*args)
            elif total and wanted(t for t in operands if t is not None and t.requires_grad):
                return summed.apply(*args)
            else:
                log_prob = kernels.apply(*args)
            return sum_event(log_prob, log_prob.dim()) if total else log_prob

        library.impl(f"{self.name}.traced", implementation, "CompositeImplicitAutograd")
        node: Callable[..., Tensor] = getattr(torch.ops.fastvae, self.name).traced
        return node

    def total(self, factor: float, *args: Any) -> Tensor:
        """factor * the sum over the rows, differentiable."""
        if not is_compiling() and _any_distributed(args):
            return self._sum(*args) * factor
        log_prob: Tensor = self._made_ahead(factor, *args)
        return log_prob

    def _sum(self, *args: Any) -> Tensor:
        """Over the rows, without gradients made ahead."""
        if is_compiling():
            return self.node(*args, True, _traced.node_revision())
        log_prob = self.apply(*args)
        return sum_event(log_prob, log_prob.dim())


def _summed(operator: LinearLikelihood) -> type[Function]:
    """The sum over the rows with its gradients, for torch.compile, which fuses their product with the upstream one."""
    one_pass, (first, last) = operator.one_pass.call, gradient_range(operator)
    before, behind = (None,) * first, (None,) * (len(operator.arguments) - last)

    class Summed(Function):
        @staticmethod
        def forward(ctx, *args):
            needs = ctx.needs_input_grad[first:last]
            total, *grads = one_pass(*args, -1.0, needs)
            ctx.dtypes = [t.dtype if need else None for t, need in zip(args[first:last], needs)]  # noqa: B905
            ctx.save_for_backward(*(g if need else None for g, need in zip(grads, needs, strict=True)))
            return -total

        @staticmethod
        def backward(ctx, upstream):
            saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
            return *before, *(None if g is None else (upstream * g).to(dtype) for g, dtype in saved), *behind

    return Summed


def _output(given: dict[str, Any]) -> Tensor:
    return F.linear(*(given[name] for name in LAYER))


def _any_distributed(args: Sequence[Any]) -> bool:
    return any(isinstance(arg, Tensor) and is_distributed(arg) for arg in args)


def _is_transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
