"""p(x|z) of classes: rows are walked once for their sums, and once more for what each element is given of them.

A program takes a part of a row. Of its sums, in float64 between tiles, every program of the second walk makes the row's
by itself: there are no atomics, and the same input gives the same bits.
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
from ...ops import Contract, RowLikelihood
from ...ops import categorical as ops
from . import plan
from .counts import poisson_log_prob
from .elementary import exp, log
from .launch import COMPILER
from .registry import implements, on_device
from .rows import rounded
from .stirling import log1p_of

PART = 16384  # elements of a row that one program takes
SUMS = tl.constexpr(4)  # numbers of a part: largest logit, tail, total, dot


class Rows(NamedTuple):
    """Where an operand's rows lie: in two levels, and elements along a row."""

    pointer: Any
    outer: Any
    inner: Any
    step: Any


class Shape(NamedTuple):
    inner_rows: Any
    cols: Any
    parts: Any


class Sums(NamedTuple):
    """Of a row: the largest logit, the sum of exp(logit - largest) without one of the largest, those of x and of
    x (logit - largest)."""

    largest: Any
    tail: Any
    total: Any
    dot: Any


@triton.jit
def _row_of(operand, row, shape):
    outer, inner = row // shape.inner_rows, row % shape.inner_rows
    return operand.pointer + outer * operand.outer + inner * operand.inner


@triton.jit
def _number_of(operand, row, shape):
    return tl.load(_row_of(operand, row, shape)).to(tl.float64)


@triton.jit
def _log1p(t):
    return log1p_of(t, 1.0 + t).log


@triton.jit
def _joined(a, b):
    largest = tl.where(a.largest < b.largest, b.largest, a.largest)
    lower = tl.where(a.largest < b.largest, a.largest, b.largest)
    even, rises = lower == largest, a.largest < b.largest
    fall = tl.where(even, 0.0, lower - largest)
    tail_above, tail_below = tl.where(rises, b.tail, a.tail), tl.where(rises, a.tail, b.tail)
    total_below = tl.where(rises, a.total, b.total)
    dot_below = tl.where(total_below == 0.0, 0.0, total_below * fall)
    tail = tail_above + (1.0 + tail_below) * tl.exp(fall)
    return Sums(largest, tail, a.total + b.total, a.dot + b.dot + dot_below)


@triton.jit
def survey(x, logits, sums, shape, SPAN: tl.constexpr, TILE: tl.constexpr, OF_INDICES: tl.constexpr, F: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    row, part = program // shape.parts, program % shape.parts
    x_row, logits_row = _row_of(x, row, shape), _row_of(logits, row, shape)
    zero = tl.zeros([], tl.float64)
    largest, tail, total, dot = zero + float("-inf"), zero - 1.0, zero, zero
    for start in range(0, SPAN, TILE):
        col = part * SPAN + start + tl.arange(0, TILE)
        inside = col < shape.cols
        a = tl.load(logits_row + col * logits.step, inside, other=float("-inf")).to(F)
        most = tl.max(a, 0)
        tied = a == most
        relative = tl.where(tied, 0.0, a - most)
        others = tl.sum(tl.where(tied, 0.0, exp(relative)), 0).to(tl.float64)
        ties = tl.sum((tied & inside).to(tl.int32), 0)
        of_x, of_both = zero, zero
        if not OF_INDICES:
            count = tl.load(x_row + col * x.step, inside, other=0).to(F)
            of_x = tl.sum(count, 0).to(tl.float64)
            of_both = tl.sum(tl.where(count == 0.0, 0.0, count * relative), 0).to(tl.float64)
        tile = Sums(most.to(tl.float64), others + (ties.to(tl.float64) - 1.0), of_x, of_both)
        joined = _joined(Sums(largest, tail, total, dot), tile)
        largest, tail, total, dot = joined.largest, joined.tail, joined.total, joined.dot
    at = sums + program * SUMS
    tl.store(at, largest)
    tl.store(at + 1, tail)
    tl.store(at + 2, total)
    tl.store(at + 3, dot)


@triton.jit
def _whole(x, logits, sums, row, shape, PARTS: tl.constexpr, OF_INDICES: tl.constexpr):
    """A row's sums of those of its parts."""
    part = tl.arange(0, PARTS)
    at, inside = sums + (row * shape.parts + part) * SUMS, part < shape.parts
    largest = tl.load(at, inside, other=float("-inf"))
    tail = tl.load(at + 1, inside, other=-1.0)
    totals = tl.load(at + 2, inside, other=0.0)
    most = tl.max(largest, 0)
    fall = tl.where(largest == most, 0.0, largest - most)
    first = tl.min(tl.where(largest == most, part, PARTS), 0)
    tail = tl.sum(tl.where(part == first, tail, (1.0 + tail) * tl.exp(fall)), 0)
    if OF_INDICES:
        index = tl.load(_row_of(x, row, shape)).to(tl.int64)
        is_class = (index >= 0) & (index < shape.cols)
        logit = tl.load(_row_of(logits, row, shape) + index * logits.step, is_class, other=float("nan")).to(tl.float64)
        total = tl.full([], 1.0, tl.float64)
        dot = tl.where(logit == most, 0.0, logit - most)
        tail = tl.where(logit == logit, tail, float("nan"))
    else:
        total = tl.sum(totals, 0)
        dot = tl.sum(tl.load(at + 3, inside, other=0.0) + tl.where(totals == 0.0, 0.0, totals * fall), 0)
    # Of two infinite logits, or of several that are all -infinity, there is no limit.
    tail = tl.where((tl.abs(most) == float("inf")) & (tail > 0.0), float("nan"), tail)
    return Sums(most, tail, total, dot)


@triton.jit
def _less_expected(count, a, decay, row, F: tl.constexpr):
    """x - total p, `decay` being p over that of the largest; where p is beyond 1/2 by 1 - p."""
    whole = 1.0 + row.tail
    expected, complement = (row.total / whole).to(F), (row.total * (row.tail / whole)).to(F)
    dominant = tl.where(row.tail < 1.0, row.largest, float("nan")).to(F)
    return tl.where(a == dominant, (count - row.total.to(F)) + complement, count - expected * decay)


@triton.jit
def finish(
    c,
    x,
    logits,
    weight,
    grad,
    out,
    sums,
    terms,
    factor,
    shape,
    SPAN: tl.constexpr,
    TILE: tl.constexpr,
    PARTS: tl.constexpr,
    OF_INDICES: tl.constexpr,
    F: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row, part = program // shape.parts, program % shape.parts
    whole = _whole(x, logits, sums, row, shape, PARTS, OF_INDICES)
    x_row, logits_row = _row_of(x, row, shape), _row_of(logits, row, shape)
    log_scale = (tl.log(whole.total) - _log1p(whole.tail)).to(F)
    expected = (whole.total / (1.0 + whole.tail)).to(F)
    slope, live = tl.load(factor), row >= 0
    if grad is not None:
        slope = _number_of(grad, row, shape)
    if weight is not None:
        slope *= _number_of(weight, row, shape)
        live = _number_of(weight, row, shape) != 0.0
    zero = tl.zeros([], tl.float64)
    factorials, deviances = zero, zero
    for start in range(0, SPAN, TILE):
        col = part * SPAN + start + tl.arange(0, TILE)
        inside = col < shape.cols
        a = tl.load(logits_row + col * logits.step, inside, other=float("-inf")).to(F)
        if OF_INDICES:
            count = (col == tl.load(x_row).to(tl.int64)).to(F)
        else:
            count = tl.load(x_row + col * x.step, inside, other=0).to(F)
        relative = tl.where(a == whole.largest.to(F), 0.0, a - whole.largest.to(F))
        decay = exp(relative)
        difference = _less_expected(count, a, decay, whole, F)
        if out is not None:
            gradient = tl.where(live, slope.to(F) * difference, 0.0)
            out_row = _row_of(out, row, shape)
            tl.store(out_row + col * out.step, rounded(gradient, out.pointer.dtype.element_ty), inside)
        if terms is not None:
            some, mean = count > 0.0, expected * decay
            inverse = 1.0 / tl.where(some, count, 1.0)
            excess, q = -difference * inverse, mean * inverse
            # Of an expectation that has underflowed the logarithm is known all the same.
            rest = tl.where(q < 1e-30, excess - ((relative + log_scale) + log(inverse)), log1p_of(excess, q).rest)
            deviance = tl.where(some, count * rest, mean)
            deviances += tl.sum(tl.where(inside, deviance, 0.0), 0).to(tl.float64)
            factorials += tl.sum(tl.where(inside, poisson_log_prob(c, count, count), 0.0), 0).to(tl.float64)
    if terms is not None:
        tl.store(terms + program * 2, factorials)
        tl.store(terms + program * 2 + 1, deviances)


@triton.jit
def values_of(
    c,
    x,
    logits,
    weight,
    sums,
    terms,
    values,
    shape,
    PARTS: tl.constexpr,
    OF_INDICES: tl.constexpr,
    F: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    whole = _whole(x, logits, sums, row, shape, PARTS, OF_INDICES)
    if terms is not None:
        part = tl.arange(0, PARTS)
        at, inside = terms + (row * shape.parts + part) * 2, part < shape.parts
        factorials = tl.sum(tl.load(at, inside, other=0.0), 0)
        # In the arithmetic type, so that the factorials of a row with one count cancel exactly.
        total = tl.full([1], 0.0, F) + whole.total.to(F)
        factorials -= tl.sum(poisson_log_prob(c, total, total), 0).to(tl.float64)
        value = factorials - tl.sum(tl.load(at + 1, inside, other=0.0), 0)
    else:
        value = whole.dot - whole.total * _log1p(whole.tail)
    if weight is not None:
        by = _number_of(weight, row, shape)
        value = tl.where(by == 0.0, 0.0, by * value)
    tl.store(values + row, value)


# Of x log x - x - log x!, which is what a Poisson distribution has at its mean.
_OF_RATE = namedtuple("_OF_RATE", ["log_rate"])(tl.constexpr(False))


def register(likelihood: RowLikelihood) -> None:
    for contract in likelihood.contracts:
        implements(contract)(launcher(likelihood, contract))


def launcher(likelihood: RowLikelihood, contract: Contract) -> Callable:
    backward, value = contract is likelihood.backward, contract is likelihood.forward
    of_indices = likelihood is ops.CATEGORICAL_LOG_PROB

    def call(*args: Any) -> Any:
        given = contract.named(args)
        x, logits, weight, event_ndim = (given[name] for name in ("x", "logits", "weight", "event_ndim"))
        if logits.numel() == 0 or logits.shape != torch.broadcast_shapes(x.shape, logits.shape):
            return contract.formula(*args)
        rows, batch = logits.shape[:-1].numel(), logits.shape[: logits.dim() - event_ndim]
        out = None if value or not given["needs"][0] else torch.empty_like(logits)
        grad = _per_row(given["grad_log_prob"], event_ndim) if backward else None
        operands, inner_rows = _laid_out(logits.shape, x, logits, weight, grad, out)
        dtype = accumulate_dtype(x, logits, weight)
        parts = triton.cdiv(logits.shape[-1], PART)
        span = min(PART, plan.power_of_two(logits.shape[-1]))
        size = {"SPAN": span, "TILE": min(span, plan.TILE)}
        how = {"OF_INDICES": of_indices, "F": tl.float64 if dtype == torch.float64 else tl.float32}
        whole = {"PARTS": plan.power_of_two(parts)}
        shape = Shape(inner_rows, logits.shape[-1], parts)
        sums = logits.new_empty(rows * parts * SUMS.value, dtype=torch.float64)
        terms = sums.new_empty(rows * parts * 2) if not backward and given.get("normalized") else None
        with on_device(logits.device):
            survey[(rows * parts,)](operands["x"], operands["logits"], sums, shape, **size, **how, **COMPILER)
            if out is not None or terms is not None:
                factor = sums.new_full((), -given.get("factor", 0.0))
                several = (operands[name] for name in ("x", "logits", "weight", "grad", "out"))
                arguments = (_OF_RATE, *several, sums, terms, factor, shape)
                finish[(rows * parts,)](*arguments, **size, **whole, **how, **COMPILER)
                if out is not None and operands["out"].pointer is not out:
                    out.copy_(operands["out"].pointer)
            if backward:
                return logits.new_empty(0) if out is None else out
            values = sums.new_empty(rows)
            several = (operands[name] for name in ("x", "logits", "weight"))
            values_of[(rows,)](_OF_RATE, *several, sums, terms, values, shape, **whole, **how, **COMPILER)
        result = values.view(*batch, -1).sum(-1)
        if value:
            return result.to(dtype)
        return (result * given["factor"]).to(dtype), logits.new_empty(0) if out is None else out

    return call


def _per_row(grad: Tensor | None, event_ndim: int) -> Tensor | None:
    return None if grad is None else grad.reshape(*grad.shape, *[1] * event_ndim)


def _laid_out(shape: torch.Size, *operands: Tensor | None) -> tuple[dict[str, Any], int]:
    """Each operand's rows, and how many rows the inner of two levels has; copies where two do not reach."""
    names = ("x", "logits", "weight", "grad", "out")
    given = {name: t for name, t in zip(names, operands, strict=True) if t is not None}
    there = {name: t if t.shape == shape else t.expand(shape) for name, t in given.items()}
    try:
        flat = plan.flatten(shape, len(shape) - 1, [t.stride() for t in there.values()], True)
        strides = dict(zip(there, flat.strides, strict=True))
    except plan.UnmergeableError:
        there = {name: t.contiguous() for name, t in there.items()}
        return _laid_out(shape, *[there.get(name) for name in names])
    laid_out: dict[str, Any] = dict.fromkeys(names)
    for name, tensor in there.items():
        pointer = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        outer, inner, _, step = strides[name]
        laid_out[name] = Rows(pointer, outer, inner, step)
    return laid_out, flat.inner_rows


register(ops.MULTINOMIAL_LOG_PROB)
register(ops.CATEGORICAL_LOG_PROB)
