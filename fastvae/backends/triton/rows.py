"""The kernel that walks rows: loads operands, draws noise, calls a formula, stores and sums. It knows no formula.

A row is what is summed over. A program takes several short rows at once, or one row, or a part of one, whose partial
sums `sum_parts` adds up in their order: there are no atomics, and the same input gives the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import COMPILED
from .layout import ALIGNED, GRAD_Z, NOISE, WEIGHT
from .noise import normals_of_blocks, normals_of_elements


class Place(NamedTuple):
    """Of a tile: its rows and columns, the numbers of its elements, which of them there are."""

    row: Any
    col: Any
    first: Any  # number of each row's first element
    number: Any
    row_inside: Any
    inside: Any


@triton.jit
def _offset(INDEX: tl.constexpr, space, place, L: tl.constexpr):
    OPERAND: tl.constexpr = L.operands[INDEX]
    AT: tl.constexpr = OPERAND.stride
    UNIT: tl.constexpr = L.unit
    if OPERAND.kind == "dense":
        return place.number
    elif OPERAND.kind == "pitched":
        return place.row * (space.strides[AT] * UNIT) + place.col
    elif OPERAND.kind == "row":
        return place.row
    elif OPERAND.kind == "column":
        return place.col
    elif OPERAND.kind == "scalar":
        return place.row * 0
    else:
        outer_row, inner_row = place.row // space.inner_rows, place.row % space.inner_rows
        of_row = outer_row * space.strides[AT] + inner_row * space.strides[AT + 1]
        if OPERAND.kind == "rows":
            return of_row
        else:
            outer_col, inner_col = place.col // space.inner_cols, place.col % space.inner_cols
            return of_row + outer_col * space.strides[AT + 2] + inner_col * space.strides[AT + 3]


@triton.jit
def _read(pointer, inside, MASKED: tl.constexpr):
    return tl.load(pointer, inside, other=0) if MASKED else tl.load(pointer)


@triton.jit
def _load(pointer, INDEX: tl.constexpr, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    OPERAND: tl.constexpr = L.operands[INDEX]
    FLOAT: tl.constexpr = L.float
    if OPERAND.kind == "zero":
        return tl.full([1, 1], 0.0, FLOAT)
    elif OPERAND.kind == "one":
        return tl.full([1, 1], 1.0, FLOAT)
    elif OPERAND.kind == "scalar":
        return tl.load(pointer + tl.full([1, 1], 0, tl.int32)).to(FLOAT)
    elif OPERAND.kind == "row" or OPERAND.kind == "rows":
        offset = _offset(INDEX, space, place, L)
        return _read(pointer + offset, place.row_inside, not L.full_rows).to(FLOAT)
    else:
        offset = _offset(INDEX, space, place, L)
        return _read(pointer + offset, place.inside, EDGE or not L.full_rows).to(FLOAT)


@triton.jit
def _noise(memory, k, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """Noise of sample k: what was given, or the stream's."""
    FLOAT: tl.constexpr = L.float
    if memory.eps is not None:
        return _load(memory.eps + k * space.steps.eps, NOISE, space, place, L, EDGE)
    elif L.operands[NOISE].kind == "blocks":
        FOURTH: tl.constexpr = L.cols // 4
        block = (place.first + k * space.steps.drawn) // 4 + tl.arange(0, FOURTH)[None, :]
        return normals_of_blocks(tl.load(memory.seed), block).to(FLOAT)
    else:
        index = _offset(NOISE, space, place, L) + k * space.steps.drawn
        return normals_of_elements(tl.load(memory.seed), index).to(FLOAT)


@triton.jit
def _sample_gradients(memory, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """Sums over the samples of grad_z and of grad_z * eps."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    FLOAT: tl.constexpr = L.float
    grad = tl.zeros([ROWS, COLS], FLOAT)
    grad_eps = tl.zeros([ROWS, COLS], FLOAT)
    lost = tl.zeros([ROWS, COLS], FLOAT)
    lost_eps = tl.zeros([ROWS, COLS], FLOAT)
    if L.operands[GRAD_Z].kind != "zero":
        for i in range(space.samples):
            k = i.to(tl.int64) if L.wide else i
            g = _load(memory.grad_z + k * space.steps.grad_z, GRAD_Z, space, place, L, EDGE)
            grad, lost = _add_compensated(g, grad, lost)
            grad_eps, lost_eps = _add_compensated(g * _noise(memory, k, space, place, L, EDGE), grad_eps, lost_eps)
    return grad, grad_eps


@triton.jit
def _add_compensated(value, total, lost):
    """total + value, and what rounding has added too much so far (Kahan 1965). Infinities have lost nothing."""
    rest = value - lost
    following = total + rest
    error = (following - total) - rest
    return following, tl.where(error == error, error, 0.0)


@triton.jit
def _place(row, start, space, L: tl.constexpr, EDGE: tl.constexpr):
    COLS: tl.constexpr = L.cols
    UNIT: tl.constexpr = L.unit
    cols = space.cols * UNIT
    if L.shifted:
        aligned = row * cols // ALIGNED * ALIGNED
        shift = row * cols - aligned
        first = aligned + start
        col = start + tl.arange(0, COLS)[None, :] - shift
    else:
        first = row * cols + start
        col = start + tl.arange(0, COLS)[None, :]
    row_inside = row < space.rows
    if EDGE:
        inside = (col < cols) & (col >= 0) if L.shifted else col < cols
        inside = inside if L.full_rows else inside & row_inside
    else:
        inside = row_inside
    return Place(row, col, first, first + tl.arange(0, COLS)[None, :], row_inside, inside)


@triton.jit
def _values(memory, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """What the formula reads."""
    values = ()
    for i in tl.static_range(len(memory.inputs)):
        values = values + (_load(memory.inputs[i], i, space, place, L, EDGE),)
    if L.operands[GRAD_Z] is not None:
        values = values + _sample_gradients(memory, space, place, L, EDGE)
    elif L.operands[NOISE] is not None:
        values = values + (_noise(memory, 0, space, place, L, EDGE),)
    return values


@triton.jit
def _without_dead(values, weight):
    """What weighs nothing is replaced by 1, lest 0 * NaN come through."""
    dead = weight == 0.0
    result = ()
    for i in tl.static_range(len(values)):
        result = result + (tl.where(dead, 1.0, values[i]),)
    return result


@triton.jit
def rounded(x, DTYPE: tl.constexpr):
    """To nearest, ties to even: float64 by way of float32, as torch does it."""
    if DTYPE.primitive_bitwidth == 16:
        x = x.to(tl.float32)
    if DTYPE == tl.bfloat16 and not COMPILED:  # the interpreter cuts off
        bits = x.to(tl.uint32, bitcast=True)
        bits = tl.where(x == x, bits + 0x7FFF + ((bits >> 16) & 1), bits)
        x = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    return x.to(DTYPE)


@triton.jit
def _several(results, COUNT: tl.constexpr):
    """What a formula gives, which is no tuple where it is one."""
    return (results,) if COUNT == 1 else results


@triton.jit
def _results(c, values, COUNT: tl.constexpr, VALUE: tl.constexpr, GRADIENT: tl.constexpr, L: tl.constexpr):
    """The value, the gradients, or for a loss in one pass its value and the gradients of its negative."""
    if VALUE is None:
        return _several(GRADIENT(c, *values), COUNT)
    elif GRADIENT is None:
        return _several(VALUE(c, *values), COUNT)
    else:
        FLOAT: tl.constexpr = L.float
        grad = tl.full([1, 1], 0.0, FLOAT) - c.factor
        return (VALUE(c, *values) * c.factor,) + _several(GRADIENT(c, grad, *values), COUNT - 1)


@triton.jit
def _averaged(value, c):
    return value if c.mean_factor is None else value * c.mean_factor


@triton.jit
def _tile(
    memory, space, c, row, start, VALUE: tl.constexpr, GRADIENT: tl.constexpr, L: tl.constexpr, EDGE: tl.constexpr
):
    """Store a tile of each output that has its shape; return the terms of those that are summed."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    place = _place(row, start, space, L, EDGE)
    MASKED: tl.constexpr = EDGE or not L.full_rows
    values = _values(memory, space, place, L, EDGE)
    if L.operands[WEIGHT] is not None:
        weight = _load(memory.weight, WEIGHT, space, place, L, EDGE)
        values = _without_dead(values, weight)
    results = _results(c, values, len(memory.outputs), VALUE, GRADIENT, L)
    terms = ()
    for i in tl.static_range(len(memory.outputs)):
        if L.operands[L.num_inputs + i] is not None:
            result = tl.broadcast_to(results[i], [ROWS, COLS])
            if L.operands[WEIGHT] is not None:
                result = tl.where(weight == 0.0, 0.0, result * weight)
            if L.operands[L.num_inputs + i].kind == "sum" or L.operands[L.num_inputs + i].kind == "shared":
                result = _averaged(result, c) if L.cut else result
                terms = terms + (tl.where(place.inside, result, 0.0) if MASKED else result,)
            else:
                pointer = memory.outputs[i] + _offset(L.num_inputs + i, space, place, L)
                result = rounded(_averaged(result, c), memory.outputs[i].dtype.element_ty)
                if MASKED:
                    tl.store(pointer, result, place.inside)
                else:
                    tl.store(pointer, result)
    return terms


@triton.jit
def _store_sums(outputs, terms, c, index, inside, L: tl.constexpr):
    for i in tl.static_range(len(outputs)):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == "sum":
                total = tl.sum(terms[0], 1)
                tl.store(outputs[i] + index, total if L.in_parts or L.cut else _averaged(total, c), inside)
                terms = terms[1:]
            elif L.operands[L.num_inputs + i].kind == "shared":
                terms = terms[1:]


@triton.jit
def _store_shared(outputs, totals, index, inside, L: tl.constexpr):
    for i in tl.static_range(len(outputs)):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == "shared":
                tl.store(outputs[i] + index, tl.sum(totals[0], 0), inside)
                totals = totals[2:]


@triton.jit
def _add(totals, terms):
    result = ()
    for i in tl.static_range(len(totals)):
        result = result + (totals[i] + terms[i],)
    return result


@triton.jit
def _add_shared(totals, terms, L: tl.constexpr):
    """Of each that is shared the total, and what it has lost."""
    result = ()
    for i in tl.static_range(len(L.operands) - L.num_inputs - 3):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == "shared":
                result = result + _add_compensated(terms[0], totals[0], totals[1])
                totals = totals[2:]
                terms = terms[1:]
            elif L.operands[L.num_inputs + i].kind == "sum":
                terms = terms[1:]
    return result


@triton.jit
def _nothing(L: tl.constexpr, KIND: tl.constexpr, EACH: tl.constexpr):
    """Zeros, so many for each result of a kind."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    FLOAT: tl.constexpr = L.float
    totals = ()
    for i in tl.static_range(len(L.operands) - L.num_inputs - 3):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == KIND:
                for _ in tl.static_range(EACH):
                    totals = totals + (tl.zeros([ROWS, COLS], FLOAT),)
    return totals


@triton.jit
def _walk_columns(memory, space, c, parts, span, VALUE: tl.constexpr, GRADIENT: tl.constexpr, L: tl.constexpr):
    """A part of the rows, in a block of columns: what the rows share is added up over them."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    part, block = tl.program_id(0) % parts, tl.program_id(0) // parts
    cols = space.cols * L.unit
    if L.wide:
        part = part.to(tl.int64)
    totals = _nothing(L, "shared", 2)  # of each the total, and what it has lost
    for first in range(part * span, tl.minimum(part * span + span, space.rows), ROWS):
        rows = first + tl.arange(0, ROWS)
        terms = _tile(memory, space, c, rows[:, None], block * COLS, VALUE, GRADIENT, L, not L.full_cols)
        _store_sums(memory.outputs, terms, c, rows * tl.cdiv(cols, COLS) + block, rows < space.rows, L)
        totals = _add_shared(totals, terms, L)
    col = block * COLS + tl.arange(0, COLS)
    _store_shared(memory.outputs, totals, part * cols + col, col < cols, L)


@triton.jit
def walk(memory, space, c, parts, span, VALUE: tl.constexpr, GRADIENT: tl.constexpr, L: tl.constexpr):
    """VALUE or GRADIENT is what is computed, or both. They stand alone: of a function within a tuple Triton's cache on
    disk does not know the source."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    program = tl.program_id(0)
    space = space  # Triton 3.6 loses what is constant in a tuple within a tuple; what has a name is not constant
    if L.by_columns:
        _walk_columns(memory, space, c, parts, span, VALUE, GRADIENT, L)
    elif L.whole_rows:
        rows = program * ROWS + tl.arange(0, ROWS)
        row = rows[:, None].to(tl.int64) if L.wide else rows[:, None]
        terms = _tile(memory, space, c, row, 0, VALUE, GRADIENT, L, not L.full_cols)
        _store_sums(memory.outputs, terms, c, rows, rows < space.rows, L)
    else:
        part = program % parts
        row = tl.full([1, 1], 0, tl.int32) if L.one_row else tl.full([1, 1], 0, tl.int32) + program // parts
        if L.wide:
            part = part.to(tl.int64)
            row = row.to(tl.int64)
        cols = space.cols * L.unit
        shift = tl.sum(row * cols % ALIGNED) if L.shifted else 0
        end = cols + shift
        totals = _nothing(L, "sum", 1)
        for start in range(part * span, tl.minimum(part * span + span, end), COLS):
            if L.full_cols:
                totals = _add(totals, _tile(memory, space, c, row, start, VALUE, GRADIENT, L, False))
            else:
                inner = (start >= shift) & (start + COLS <= end)
                if L.sums:
                    if inner:
                        totals = _add(totals, _tile(memory, space, c, row, start, VALUE, GRADIENT, L, False))
                    else:
                        totals = _add(totals, _tile(memory, space, c, row, start, VALUE, GRADIENT, L, True))
                else:  # Triton carries no empty tuple out of a branch
                    if inner:
                        _tile(memory, space, c, row, start, VALUE, GRADIENT, L, False)
                    else:
                        _tile(memory, space, c, row, start, VALUE, GRADIENT, L, True)
        _store_sums(memory.outputs, totals, c, program + tl.arange(0, 1), tl.full([1], 1, tl.int1), L)


@triton.jit
def sum_parts(partial, total, mean_factor, rows, parts, ROWS: tl.constexpr, PARTS: tl.constexpr):
    """The sums of rows [rows, parts] of partial sums, each in the order of its parts."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.arange(0, PARTS)
    inside = (row < rows)[:, None] & (part < parts)[None, :]
    terms = tl.load(partial + row[:, None] * parts + part[None, :], inside, other=0.0)
    result = tl.sum(terms, 1)
    tl.store(total + row, result if mean_factor is None else result * mean_factor, row < rows)
