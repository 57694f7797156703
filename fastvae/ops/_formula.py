"""An operator in plain torch: its formula between what every formula has around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, broadcast_shape, sample_shape
from ..formulas import elements
from ..formulas.noise import noise

if TYPE_CHECKING:
    from ._operator import Operator

# Constants that say how results are summed, and not what is.
_OF_SUMS = frozenset({"num_samples", "event_ndim", "averaged", "needs", "factor"})


class PlainTorch:
    """`value` and `gradient`, functions of elements, as functions of the operator's arguments and of its backward's."""

    def __init__(self, operator: Operator, value: Callable[..., Any], gradient: Callable[..., Any]) -> None:
        self.operator, self.value, self.gradient = operator, value, gradient
        self.constants = tuple(name for name in operator.constants if name not in _OF_SUMS)

    def forward(self, *args: Any) -> Any:
        """The outputs; differentiable."""
        given = self.operator.forward.named(args)
        shape = broadcast_shape(*self.operator.shaped(given))
        weight, operands, dtype = self._in_arithmetic(given)
        if self.operator.samples:
            z_shape = sample_shape(shape, given.get("num_samples", 0))
            operands.append(noise(given["seed"], given["eps"], z_shape, dtype))
        results = list(_as_tuple(self.value(*operands, **self._constants(given))))
        sample = [elements.like_operand(results.pop(0), args[0])] if self.operator.samples else []
        event_ndim, factor = given.get("event_ndim", 0), self._factor(shape, given)
        terms_shape = (*shape[:-1], 1) if self.operator.of_rows else shape
        terms = [elements.weighted(weight, result).expand(terms_shape) for result in results]
        sums = [_scaled(elements.sum_event(term, event_ndim), factor) for term in terms]
        return _one_or_all((*sample, *sums))

    def backward(self, *args: Any) -> Any:
        """The gradients, as `empty_grad` describes them; differentiable."""
        given = self.operator.backward.named(args)
        shape, event_ndim = broadcast_shape(*self.operator.shaped(given)), given.get("event_ndim", 0)
        weight, operands, dtype = self._in_arithmetic(given)
        like, factor = args[len(self.operator.outputs)], self._factor(shape, given)
        grads = [
            elements.weighted(
                weight, _scaled(elements.zero_if_none(given[f"grad_{name}"], like, dtype, event_ndim), factor)
            )
            for name in self.operator.summed
        ]
        sampled = self._sums_over_samples(given, shape, like, dtype) if self.operator.samples else ()
        results = _as_tuple(self.gradient(*grads, *operands, *sampled, **self._constants(given)))
        return _one_or_all(self._wanted(given, results, shape, event_ndim))

    def one_pass(self, *args: Any) -> tuple[Tensor, ...]:
        """factor * the sum over everything, and the gradients of its negative."""
        *arguments, factor, needs = args
        total = self.forward(*arguments) * factor
        grads = self.backward(total.new_full((), -factor), *arguments, needs)
        return total, *_as_tuple(grads)

    def _in_arithmetic(self, given: dict[str, Any]) -> tuple[Tensor | None, list[Any], torch.dtype]:
        fixed = len(self.operator.operands) - len(self.operator.differentiable)
        named = [given[name].detach() for name in self.operator.operands[:fixed]]
        named += [given[name] for name in self.operator.operands[fixed:]]
        instead = 0.0 if self.operator.of_rows else 1.0  # a class that there is
        weight, *operands = elements.in_arithmetic(given.get("weight"), *named, instead=instead)
        return weight, [1.0 if o is None else o for o in operands], accumulate_dtype(given.get("weight"), *named)

    def _constants(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: given[name] for name in self.constants}

    def _factor(self, shape: torch.Size, given: dict[str, Any]) -> float:
        """What each element adds to a mean; the mean of nothing is 0."""
        return 1 / max(math.prod(shape[len(shape) - given["event_ndim"] :]), 1) if given.get("averaged") else 1.0

    def _sums_over_samples(self, given, shape: torch.Size, like: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        num_samples = given.get("num_samples", 0)
        z_shape = sample_shape(shape, num_samples)
        grad = elements.zero_if_none(given[f"grad_{self.operator.outputs[0]}"], like, dtype).expand(z_shape)
        grad_eps = grad * noise(given["seed"], given["eps"], z_shape, dtype)
        return (grad.sum(0), grad_eps.sum(0)) if num_samples > 0 else (grad, grad_eps)

    def _wanted(self, given, results, shape: torch.Size, event_ndim: int) -> tuple[Tensor, ...]:
        nothing = given[self.operator.operands[0]]
        return tuple(
            elements.as_grad(result, given[name], shape, event_ndim) if need else nothing.new_empty(0)
            for name, need, result in zip(self.operator.differentiable, given["needs"], results, strict=True)
        )


def _scaled(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1.0 else value * factor


def _as_tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def _one_or_all(results: tuple[Tensor, ...]) -> Any:
    return results[0] if len(results) == 1 else results
