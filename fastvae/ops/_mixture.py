"""A mixture of a likelihood as one operator: of its components' elements only gradients are ever whole.

Here in chunks, by the component's kernels; a backend may have a kernel of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

from .._shapes import accumulate_dtype, is_distributed, sum_to_shape
from ..formulas.elements import sum_event, weighted
from ..formulas.mixture import Mixture, mixture, mixture_log_prob
from . import _chunks
from ._autograd import fitted, function_of
from ._chunks import Box, part
from ._contract import Composed, composed, parse
from ._dtensor import ready
from ._likelihood import Likelihood
from ._one_pass import is_batched, total

# Where a kernel that gives each element's value with its derivatives is known to take less than two.
TOGETHER = frozenset({"cpu"})
# How often a chunk's elements are in memory, over what `_chunks` counts on: values, two parameters' derivatives, and
# of each component some more. Larger ones are no faster, and are a part of the peak.
_KEPT = 3


class MixtureLikelihood:
    """log of the sum over k of pi_k times the product over the channels of p(x_c | parameters_kc), summed over pixels.

    `name(x, mixture_logits, the component's parameters, weight, constants) -> log_prob`, [*samples, B]. x is
    [B, C, *pixels], mixture_logits [*samples, B, K, *pixels], parameters [*samples, B, K, C, *pixels], and weight
    [*samples, B, *pixels].
    """

    outputs = ("log_prob",)

    def __init__(self, component: Likelihood) -> None:
        self.component = component
        self.name = f"{component.name.removesuffix('_log_prob')}_mixture_log_prob"
        self.kernel, self.parameters = component.name, component.operands[1:]
        names = ("x", "mixture_logits", *self.parameters)
        constants = (a for a in component.arguments if not a.is_tensor and a.name != "event_ndim")
        self.arguments = (*parse(", ".join(f"Tensor {name}" for name in names)), *parse("Tensor? weight"), *constants)
        self.tensors = tuple(a.name for a in self.arguments if a.is_tensor)
        self.constants = tuple(a.name for a in self.arguments if not a.is_tensor)
        self.differentiable = names
        self.forward, self.backward, self.one_pass = composed(
            self.name,
            self.arguments,
            len(self.differentiable),
            (self._fake, self._forward),
            (self._fake_backward, self._backward),
            (self._fake_one_pass, self._one_pass),
        )
        self.apply = self._differentiable()
        self.total = total(self, self.one_pass, self._sum)

    @property
    def contracts(self) -> tuple[Composed, ...]:
        return self.forward, self.backward, self.one_pass

    # What it computes, and what is known before.

    def _forward(self, *args: Any) -> Tensor:
        given = self.forward.named(args)
        result = self._empty(given)
        for chunk in self._chunks(given):
            result[chunk.box] = self._log_prob(chunk, self._mixture(chunk, self._log_probs(chunk)))
        return result

    def _fake_backward(self, *args: Any) -> tuple[Tensor, ...]:
        return self.empty_grads(self.backward.named(args))

    def _backward(self, *args: Any) -> tuple[Tensor, ...]:
        given = self.backward.named(args)
        grads = self.empty_grads(given)
        places = dict(zip(self.differentiable, grads, strict=True))
        for chunk in self._chunks(given):
            self._add(places, chunk, args[0][chunk.box])
        return grads

    def _one_pass(self, *args: Any) -> tuple[Tensor, ...]:
        """factor * the sum over everything, and the gradients of its negative."""
        given = self.one_pass.named(args)
        grads, values = self.empty_grads(given), []
        places = dict(zip(self.differentiable, grads, strict=True))
        nothing = args[0].new_zeros(1, dtype=accumulate_dtype(*self._tensors(given)))
        for chunk in self._chunks(given):
            of_chunk = self._add(places, chunk, nothing.new_full((), -given["factor"]))
            values.append(self._log_prob(chunk, of_chunk).reshape(-1))
        return sum_event(torch.cat([nothing, *values]), 1) * given["factor"], *grads

    def _fake(self, *args: Any) -> Tensor:
        return self._empty(self.forward.named(args))

    def _empty(self, given: dict[str, Any]) -> Tensor:
        return given["x"].new_empty(batch_of(given), dtype=accumulate_dtype(*self._tensors(given)))

    def _fake_one_pass(self, *args: Any) -> tuple[Tensor, ...]:
        given = self.one_pass.named(args)
        result = args[0].new_empty((), dtype=accumulate_dtype(*self._tensors(given)))
        return result, *self.empty_grads(given)

    def empty_grads(self, given: dict[str, Any]) -> tuple[Tensor, ...]:
        """In the operands' dtypes, x's in that of arithmetic, since it is summed; empty where none is needed."""
        needs = dict(zip(self.differentiable, given["needs"], strict=True))
        nothing, contiguous = given["mixture_logits"].new_empty(0), torch.contiguous_format
        grads = {n: torch.empty_like(given[n], memory_format=contiguous) if needs[n] else nothing for n in needs}
        if needs["x"]:
            grads["x"] = torch.zeros_like(
                given["x"], dtype=accumulate_dtype(*self._tensors(given)), memory_format=contiguous
            )
        return tuple(grads.values())

    def _tensors(self, given: dict[str, Any]) -> list[Tensor | None]:
        return [given[name] for name in self.tensors]

    # A chunk: some rows of the batch, their pixels whole.

    def _chunks(self, given: dict[str, Any]) -> Iterator[Chunk]:
        operands, batch = self._aligned(given), batch_of(given)
        dtype, parameter = accumulate_dtype(*self._tensors(given)), operands[self.parameters[0]]
        elements = math.prod(parameter.shape[len(batch) :])
        rows = _chunks.rows_in_cache(parameter.device, dtype, _KEPT * elements)
        inner = (slice(None),) * (parameter.dim() - len(batch))
        for box in _chunks.boxes(batch, rows):
            parts = {name: None if t is None else part(t, (*box, *inner)) for name, t in operands.items()}
            yield Chunk(box, parts, dtype, -len(inner), [given[name] for name in self.constants])

    def _aligned(self, given: dict[str, Any]) -> dict[str, Any]:
        """Every tensor with as many dimensions behind the batch as the parameters have."""
        weight = given["weight"]
        return {
            "x": given["x"].unsqueeze(1),
            "mixture_logits": given["mixture_logits"].unsqueeze(-1 - pixels_ndim(given)),
            **{name: given[name] for name in self.parameters},
            "weight": None if weight is None else weight[(..., None, None, *[slice(None)] * pixels_ndim(given))],
        }

    def _arguments(self, chunk: Chunk) -> tuple[Any, ...]:
        """The component's, element by element."""
        given = chunk.operands
        mask = None if given["weight"] is None else given["weight"] != 0
        return given["x"], *(given[name] for name in self.parameters), mask, 0, *chunk.constants

    def _mixture(self, chunk: Chunk, log_probs: Tensor) -> Mixture:
        """Given the components' log-likelihoods of each pixel."""
        return mixture(chunk.operands["mixture_logits"].to(chunk.dtype), log_probs, chunk.components)

    def _log_probs(self, chunk: Chunk) -> Tensor:
        return self._over_channels(chunk, self.component.forward.call(*self._arguments(chunk)))

    def _over_channels(self, chunk: Chunk, terms: Tensor) -> Tensor:
        return terms.sum(chunk.components + 1, keepdim=True)

    def _log_prob(self, chunk: Chunk, of_chunk: Mixture) -> Tensor:
        return sum_event(weighted(chunk.operands["weight"], of_chunk.log_prob), -chunk.components)

    def _add(self, places: dict[str, Tensor], chunk: Chunk, grad: Tensor) -> Mixture:
        """A chunk's gradients, given that of its log_prob."""
        needs = [places[name].numel() > 0 for name in self.component.operands]
        log_probs, slopes = self._with_slopes(chunk, needs)
        of_chunk = self._mixture(chunk, log_probs)
        grad = grad.to(chunk.dtype).reshape([*grad.shape, *[1] * -chunk.components])
        grad = weighted(chunk.operands["weight"], grad)
        if places["mixture_logits"].numel() > 0:
            of_logits = self._times(chunk, grad, of_chunk.posterior - of_chunk.prior)
            places["mixture_logits"][chunk.box] = of_logits.squeeze(chunk.components + 1)
        if any(needs):
            of_components = self._times(chunk, grad, of_chunk.posterior)
            if slopes is None:
                self._add_component(places, chunk, of_components, needs)
            else:
                for name, slope, need in zip(self.parameters, slopes, needs[1:], strict=True):
                    if need:
                        torch.mul(slope, of_components, out=places[name][chunk.box])
        return of_chunk

    def _add_component(
        self, places: dict[str, Tensor], chunk: Chunk, of_components: Tensor, needs: Sequence[bool]
    ) -> None:
        """Its own operands' gradients, by its backward."""
        of_elements = of_components.expand(chunk.operands[self.parameters[0]].shape)
        of_x, *others = self.component.backward.call(of_elements, *self._arguments(chunk), needs)
        for name, result, need in zip(self.parameters, others, needs[1:], strict=True):
            if need:
                places[name][chunk.box] = result
        if needs[0]:
            place = part(places["x"], (*chunk.box, *[slice(None)] * (-chunk.components - 1)))
            of_x = of_x.squeeze(chunk.components)
            place += sum_to_shape(of_x, [*[1] * (of_x.dim() - place.dim()), *place.shape]).reshape(place.shape)

    def _with_slopes(self, chunk: Chunk, needs: Sequence[bool]) -> tuple[Tensor, Sequence[Tensor] | None]:
        """The components' log-likelihoods and, by the same kernel, the derivatives of each element; None where that
        would sum x's over the components, or round them."""
        parameters = [chunk.operands[name] for name in self.parameters]
        device = parameters[0].device.type
        if needs[0] or not any(needs) or device not in TOGETHER or any(t.dtype != chunk.dtype for t in parameters):
            return self._log_probs(chunk), None
        negative, _, *slopes = self.component.one_pass.call(*self._arguments(chunk), -1.0, needs)
        return -self._over_channels(chunk, negative), slopes

    def _times(self, chunk: Chunk, grad: Tensor, term: Tensor) -> Tensor:
        """grad * term; 0 where a pixel weighs nothing, lest 0 * NaN come through."""
        weight = chunk.operands["weight"]
        return grad * term if weight is None else torch.where(weight == 0, 0.0, grad * term)

    # The same by the component's own operator, for whatever transforms it.

    def pair(self, *args: Any) -> Tensor:
        given = self.forward.named(args)
        operands, components = self._aligned(given), -2 - pixels_ndim(given)
        weight, logits = operands["weight"], operands["mixture_logits"]
        mask = None
        if weight is not None:
            mask = weight != 0
            logits = torch.where(mask, logits, 0.0)
        parameters = (operands[name] for name in self.parameters)
        log_probs = self.component.apply(
            operands["x"], *parameters, mask, 0, *(given[name] for name in self.constants)
        ).sum(components + 1, keepdim=True)
        log_prob = mixture_log_prob(logits.to(log_probs.dtype), log_probs, components)
        return sum_event(weighted(weight, log_prob), -components)

    # As autograd and torch.compile see it.

    def gradients(self, grads: Any, tensors: Any, constants: Any, needs: Any) -> list[Tensor | None]:
        """(gradient of log_prob, tensors, constants, needs) -> the operands' gradients, None where none is needed."""
        (grad,) = grads
        if grad is None:
            return [None] * len(needs)
        if is_batched(grad) or torch.is_grad_enabled():
            return self._pair_gradients(grad, tensors, constants, needs)
        grad = grad.expand(batch_of(self.forward.named((*tensors, *constants))))  # one for all, of a total
        return fitted(self.backward.call(grad, *tensors, *constants, needs), tensors[: len(needs)], needs)

    def _pair_gradients(self, grad: Tensor, tensors: Any, constants: Any, needs: Any) -> list[Tensor | None]:
        """Differentiable, and under vmap."""
        wanted = [i for i, need in enumerate(needs) if need]

        def value(*operands: Tensor) -> Tensor:
            given = list(tensors)
            for i, operand in zip(wanted, operands, strict=True):
                given[i] = operand
            return self.pair(*given, *constants)

        result, vjp, *_ = torch.func.vjp(value, *(tensors[i] for i in wanted))
        found = dict(zip(wanted, vjp(grad.expand(result.shape).to(result.dtype)), strict=True))
        return [found.get(i) for i in range(len(needs))]

    def _differentiable(self) -> Callable[..., Tensor]:
        kernels = function_of(self, self.forward.call, self.gradients)
        apply: Callable[..., Tensor] = super(Function, kernels).apply  # type: ignore[misc]

        def call(*args: Any) -> Tensor:
            if is_compiling() or _is_transformed() or _any_distributed(args):
                return self.pair(*args)
            ready()
            return apply(*args)

        return call

    def _sum(self, *args: Any) -> Tensor:
        """Over the batch, without gradients made ahead."""
        log_prob = self.apply(*args)
        return sum_event(log_prob, log_prob.dim())


class Chunk(NamedTuple):
    box: Box
    operands: dict[str, Any]
    dtype: torch.dtype
    components: int  # which dimension; channels are the next
    constants: Sequence[Any]


def pixels_ndim(given: dict[str, Any]) -> int:
    """x has one dimension for the batch and one for the channels besides."""
    ndim: int = given["x"].dim() - 2
    return ndim


def batch_of(given: dict[str, Any]) -> torch.Size:
    return given["mixture_logits"].shape[: -1 - pixels_ndim(given)]


def _any_distributed(args: Sequence[Any]) -> bool:
    return any(isinstance(arg, Tensor) and is_distributed(arg) for arg in args)


def _is_transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
