"""A mixture whose indicator the channels of a pixel share: a program walks the components of some pixels.

Once for the sums of prior and posterior, once more where gradients are wanted: what would have to be kept of the
components is computed again.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._shapes import accumulate_dtype
from ...formulas.elements import sum_event
from ...ops import Composed
from ...ops._mixture import MixtureLikelihood, batch_of
from ...ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
from . import plan
from .constants import number
from .elementary import exp_decay, log
from .launch import COMPILER
from .pixels import discretized_logistic_log_prob, discretized_logistic_log_prob_gradient
from .registry import implements, on_device
from .rows import rounded

TILE = 256  # pixels of a program


class Elements(NamedTuple):
    """An operand, and its strides."""

    pointer: Any
    sample: Any
    row: Any
    component: Any
    channel: Any
    pixel: Any


class Shape(NamedTuple):
    rows: Any
    pixels: Any
    components: Any
    channels: Any
    size: Any  # samples * rows * pixels


class Place(NamedTuple):
    """Where a program's pixels are."""

    sample: Any
    row: Any
    pixel: Any
    inside: Any


@triton.jit
def _at(operand, place, k, channel):
    pixels = place.sample * operand.sample + place.row * operand.row + place.pixel * operand.pixel
    return operand.pointer + (pixels + k * operand.component + channel * operand.channel)


@triton.jit
def _load(operand, place, k, channel, F: tl.constexpr):
    return tl.load(_at(operand, place, k, channel), place.inside, other=0).to(F)


@triton.jit
def _store(operand, place, k, channel, live, value):
    result = rounded(tl.where(live, value, 0.0), operand.pointer.dtype.element_ty)
    tl.store(_at(operand, place, k, channel), result, place.inside)


@triton.jit
def _origin(largest):
    """What logits are taken relative to: where all are -infinity, so is the logarithm of the sum."""
    return tl.where(tl.abs(largest) == float("inf"), 0.0, largest)


@triton.jit
def _log_prob_of(c, x, mean, log_scale, place, k, channels, F: tl.constexpr):
    """A component's, of all channels."""
    total = tl.zeros(place.inside.shape, F)
    for channel in range(0, channels):
        of_channel = _load(x, place, 0, channel, F)
        location, scale = _load(mean, place, k, channel, F), _load(log_scale, place, k, channel, F)
        total += discretized_logistic_log_prob(c, of_channel, location, scale)
    return total


@triton.jit
def walk(
    c,
    x,
    logits,
    mean,
    log_scale,
    weight,
    grad,
    of_x,
    of_logits,
    of_mean,
    of_log_scale,
    values,
    factor,
    shape,
    SIZE: tl.constexpr,
    BACKWARD: tl.constexpr,
    F: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    row = index // shape.pixels
    place = Place(row // shape.rows, row % shape.rows, index % shape.pixels, index < shape.size)
    zero = tl.zeros([SIZE], F)
    largest = zero + float("-inf")
    for k in range(0, shape.components):
        logit = _load(logits, place, k, 0, F)
        largest = tl.where(largest < logit, logit, largest)
    origin = _origin(largest)
    prior_sum, peak, posterior_sum = zero, zero + float("-inf"), zero
    for k in range(0, shape.components):
        relative = _load(logits, place, k, 0, F) - origin
        logit = _log_prob_of(c, x, mean, log_scale, place, k, shape.channels, F) + relative
        higher = tl.where(peak < logit, logit, peak)
        prior_sum += exp_decay(relative)
        posterior_sum = posterior_sum * exp_decay(peak - _origin(higher)) + exp_decay(logit - _origin(higher))
        peak = higher
    live = place.inside
    by = zero + 1.0
    if weight is not None:
        by = _load(weight, place, 0, 0, F)
        live = by != 0.0
    if values is not None:
        value = _origin(peak) + (log(posterior_sum) - log(prior_sum))
        tl.store(values + index, tl.where(live, by * value, 0.0), place.inside)
    if BACKWARD:
        if grad is not None:
            slope = by * _load(grad, place, 0, 0, F)
        else:
            slope = by * tl.load(factor).to(F)
        for k in range(0, shape.components):
            relative = _load(logits, place, k, 0, F) - origin
            logit = _log_prob_of(c, x, mean, log_scale, place, k, shape.channels, F) + relative
            posterior = exp_decay(logit - _origin(peak)) / posterior_sum
            if of_logits is not None:
                difference = posterior - exp_decay(relative) / prior_sum
                _store(of_logits, place, k, 0, live, slope * difference)
            for channel in range(0, shape.channels):
                of_channel = _load(x, place, 0, channel, F)
                location, scale = _load(mean, place, k, channel, F), _load(log_scale, place, k, channel, F)
                by_x, by_mean, by_scale = discretized_logistic_log_prob_gradient(
                    c, slope * posterior, of_channel, location, scale
                )
                if of_mean is not None:
                    _store(of_mean, place, k, channel, live, by_mean)
                if of_log_scale is not None:
                    _store(of_log_scale, place, k, channel, live, by_scale)
                if of_x is not None:  # a sum, of which each element is one thread's
                    _store(of_x, place, 0, channel, live, _load(of_x, place, 0, channel, F) + by_x)


def register(operator: MixtureLikelihood) -> None:
    for contract in operator.contracts:
        implements(contract)(launcher(operator, contract))


def launcher(operator: MixtureLikelihood, contract: Composed) -> Callable:
    constants_of = namedtuple("Constants", operator.constants)._make  # type: ignore[misc, attr-defined]
    backward, value = contract is operator.backward, contract is operator.forward

    def call(*args: Any) -> Any:
        given = contract.named(args)
        batch, shape, dtype = batch_of(given), _shape(given), accumulate_dtype(*(given[n] for n in operator.tensors))
        if shape.size == 0:
            return contract.formula(*args)
        device, double = given["x"].device, dtype == torch.float64
        grads = () if value else operator.empty_grads(given)
        of = dict(zip(operator.differentiable, grads, strict=True)) if grads else {}
        # x's is summed over the samples in the end.
        of_x = of["x"].new_zeros(*batch, *of["x"].shape[1:]) if grads and of["x"].numel() > 0 else None
        values = None if backward else torch.empty(shape.size, dtype=dtype, device=device)
        c = constants_of(number(given[name], double) for name in operator.constants)
        factor = torch.full((), -given.get("factor", 0.0), dtype=torch.float64, device=device)
        operands = (
            *_operands(given, shape),
            _elements(given["grad_log_prob"], shape, "") if backward else None,
            None if of_x is None else _elements(of_x, shape, "cp"),
            *(
                _gradient(of.get(name), shape, layout)
                for name, layout in LAYOUTS.items()
                if name not in ("x", "weight")
            ),
        )
        size = min(plan.power_of_two(shape.size), TILE)
        with on_device(device):
            walk[(triton.cdiv(shape.size, size),)](
                c,
                *operands,
                values,
                factor,
                shape,
                SIZE=size,
                BACKWARD=not value,
                F=tl.float64 if double else tl.float32,
                **COMPILER,
            )
        if of_x is not None:
            of["x"].copy_(of_x.sum(tuple(range(len(batch) - 1))) if len(batch) > 1 else of_x)
        if values is None:
            return tuple(of.values())
        each = sum_event(values.view(*batch, shape.pixels), 1)
        return each if value else (sum_event(each, each.dim()) * given["factor"], *of.values())

    return call


# Behind samples and rows: c for channels, k for components, p for pixels.
LAYOUTS = {"x": "cp", "mixture_logits": "kp", "mean": "kcp", "log_scale": "kcp", "weight": "p"}


def _shape(given: dict[str, Any]) -> Shape:
    x, batch = given["x"], batch_of(given)
    pixels = x.shape[2:].numel()
    components = given["mixture_logits"].shape[len(batch)]
    return Shape(x.shape[0], pixels, components, x.shape[1], batch.numel() * pixels)


def _operands(given: dict[str, Any], shape: Shape) -> list[Elements | None]:
    x = given["x"].expand(*batch_of(given), *given["x"].shape[1:])
    tensors = {**given, "x": x}
    return [None if tensors[n] is None else _elements(tensors[n], shape, layout) for n, layout in LAYOUTS.items()]


def _gradient(tensor: Tensor | None, shape: Shape, layout: str) -> Elements | None:
    return None if tensor is None or tensor.numel() == 0 else _elements(tensor, shape, layout)


def _elements(tensor: Tensor, shape: Shape, layout: str) -> Elements:
    """Read in place where samples, and pixels, are one dimension each by their strides."""
    sizes = {"k": shape.components, "c": shape.channels, "p": shape.pixels}
    samples = shape.size // (shape.rows * shape.pixels)
    flat = tensor.reshape(samples, shape.rows, *(sizes[d] for d in layout))
    by = dict(zip(("sample", "row", *layout), flat.stride(), strict=True))
    pointer = flat.view(torch.uint8) if flat.dtype == torch.bool else flat
    return Elements(pointer, by["sample"], by["row"], by.get("k", 0), by.get("c", 0), by.get("p", 0))


register(DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB)
