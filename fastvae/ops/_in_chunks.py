"""The work of a linear layer with its likelihood, chunk by chunk: products of matrices are torch's, on each chunk the
likelihood's kernels run. Every chunk overwrites the last one's parameters, and gradients are summed where they are
wanted, in the dtype of arithmetic and in the order of the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, broadcast_shape, sum_last, sum_to_shape
from ..formulas.linear import as_rows
from . import _chunks
from ._chunks import Box, inside, part

if TYPE_CHECKING:
    from ._linear import LinearLikelihood

Gradients = Callable[[Box, slice, Tensor], Sequence[Tensor]]  # of a likelihood: which rows, which columns, its logits


class InChunks:
    """One call of the operator. `given` are its arguments by name."""

    def __init__(self, operator: LinearLikelihood, given: dict[str, Any]) -> None:
        self.operator, self.likelihood, self.given = operator, operator.likelihood, given
        shaped = operator.shaped(given)
        *self.batch, self.columns = broadcast_shape(*shaped)
        self.dtype = accumulate_dtype(*shaped)
        weight, bias = given["weight"], given["bias"]
        # CPUs multiply half precision slower than float32, unless they have matrix units for it.
        self.factors = self.dtype if weight.device.type == "cpu" else weight.dtype
        self.weight = weight.to(self.factors)
        self.bias = None if bias is None else bias.to(self.dtype)
        self.input = given["input"].expand(*self.batch, -1)

    def log_prob(self) -> Tensor:
        """[*batch]."""
        result = self.weight.new_zeros(self.batch, dtype=self.dtype)
        for box, columns, input in self._chunks():
            arguments = self._arguments(box, columns, self._logits(input, box, columns), 1)
            result[box] += self.likelihood.forward.call(*arguments)
        return result

    def gradients(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Given the gradient of each log_prob."""
        needs = self._needs()

        def call(box: Box, columns: slice, logits: Tensor) -> Sequence[Tensor]:
            arguments = self._arguments(box, columns, logits, 1)
            results = self.likelihood.backward.call(grad[box], *arguments, needs)
            return results if len(needs) > 1 else (results,)

        return self._sums(call)

    def one_pass(self, factor: float) -> tuple[Tensor, ...]:
        """factor * the sum over everything, and the gradients of its negative."""
        needs, totals = self._needs(), [self.weight.new_zeros((), dtype=self.dtype)]

        def call(box: Box, columns: slice, logits: Tensor) -> Sequence[Tensor]:
            arguments = self._arguments(box, columns, logits, logits.dim())
            value, *results = self.likelihood.one_pass.call(*arguments, factor, needs)
            totals.append(value)
            return results

        sums = self._sums(call)
        return sum_last(torch.stack(totals)), *sums

    def _sums(self, call: Gradients) -> tuple[Tensor, ...]:
        """The operands' gradients, of the likelihood's on each chunk."""
        sums = self.operator.sums(self.given, torch.zeros_like)
        for box, columns, input in self._chunks():
            logits = self._logits(input, box, columns)
            self._add(sums, box, columns, input, self._by_parts(call, box, columns, logits))
        return tuple(sums.values())

    def _by_parts(self, call: Gradients, box: Box, columns: slice, logits: Tensor) -> Sequence[Tensor]:
        """Few rows at a time where products want more than a cache holds, each gradient in the place of its logits."""
        if not self.likelihood.of_rows or math.prod(logits.shape[:-1]) <= self._part_rows:
            return call(box, columns, logits)
        for inner in _chunks.boxes(logits.shape[:-1], self._part_rows):
            (gradient,) = call(inside(box, inner, self.batch), columns, logits[inner])
            if gradient.numel() > 0:  # it is needed
                logits[inner] = gradient
        return (logits,)

    def _chunks(self) -> Iterator[tuple[Box, slice, Tensor]]:
        """Of which rows, of which columns, and what the layer is given for those rows."""
        device, whole_rows = self.weight.device, self.likelihood.of_rows
        rows, width = _chunks.on(device, self.dtype, math.prod(self.batch), self.columns, whole_rows)
        self._part_rows = _chunks.rows_in_cache(device, self.dtype, width)
        self._place = self.weight.new_empty(rows * width, dtype=self.dtype)
        for box in _chunks.boxes(self.batch, rows):
            input = as_rows(self.input[box]).to(self.factors)
            for columns in _chunks.intervals(self.columns, width):
                yield box, columns, input

    def _logits(self, input: Tensor, box: Box, columns: slice) -> Tensor:
        """The layer's output on a chunk, [*box, columns], in the place of the last one's."""
        weight = self.weight[columns]
        place = self._place[: len(input) * len(weight)].view(len(input), len(weight))
        _add_product(place, input, weight.t(), beta=0)
        if self.bias is not None:
            place += self.bias[columns]
        return place.view(*self.input[box].shape[:-1], len(weight))

    def _arguments(self, box: Box, columns: slice, logits: Tensor, event_ndim: int) -> tuple[Any, ...]:
        """The likelihood's, on a chunk."""
        named = ("x", *self.operator.further, "element_weight")
        present = (name for name in named if self.given[name] is not None)
        parts = {name: part(self.given[name], (*box, columns)) for name in present}
        return self.operator.of_likelihood({**self.given, **parts}, logits, event_ndim)

    def _needs(self) -> list[bool]:
        return self.operator.needs_of_likelihood(self.given["needs"])

    def _add(self, sums: dict[str, Tensor], box: Box, columns: slice, input: Tensor, results: Sequence[Tensor]) -> None:
        """A chunk's gradients."""
        needed = self.operator.named_needs(self.given["needs"])
        found = dict(zip(self.likelihood.differentiable, results, strict=True))
        of_output = found.pop(self.likelihood.operands[1])
        for name, result in found.items():
            if needed[name]:
                _add_summed(part(sums[name], (*box, columns)), result)
        if any(needed[name] for name in ("input", "weight", "bias")):
            of_rows = as_rows(of_output)
            if needed["bias"]:
                sums["bias"][columns] += of_rows.sum(0)
            of_rows = of_rows.to(self.factors)
            if needed["weight"]:
                _add_product(sums["weight"][columns], of_rows.t(), input)
            if needed["input"]:
                place = part(sums["input"], (*box, slice(None)))
                _add_rows(place, of_rows, self.weight[columns], self.input[box].shape)


def _add_product(place: Tensor, a: Tensor, b: Tensor, beta: int = 1) -> None:
    """place = beta * place + a @ b, summed in place's dtype; beta is 0 or 1."""
    if a.dtype == place.dtype:
        place.addmm_(a, b, beta=beta)
    elif beta:
        place += torch.mm(a, b, out_dtype=place.dtype)
    else:
        torch.mm(a, b, out_dtype=place.dtype, out=place)


def _add_rows(place: Tensor, a: Tensor, b: Tensor, shape: torch.Size) -> None:
    """place += (a @ b).reshape(shape), summed to place's shape."""
    if place.shape == shape:
        _add_product(place.view(len(a), b.shape[1]), a, b)
    else:
        product = place.new_empty(len(a), b.shape[1])
        _add_product(product, a, b, beta=0)
        _add_summed(place, product.reshape(shape))


def _add_summed(place: Tensor, result: Tensor) -> None:
    """place += result, which has ones in front, or dimensions that place is shared by."""
    place += sum_to_shape(result, [*[1] * (result.dim() - place.dim()), *place.shape]).reshape(place.shape)
