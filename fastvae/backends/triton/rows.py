"""The kernel that walks rows: loads operands, draws noise, calls a formula, stores and sums. It knows no formula.

A row is what is summed over. A program takes several short rows at once, or one row, or a part of one, whose partial
sums `sum_parts` adds up in their order: there are no atomics, and the same input gives the same bits.

Where an operand has the element (row, col) is said by its kind and the place of its first stride in `strides`, both
constants that `plan.py` chooses. Lengths and pitches come in units of `unit` elements, so that the compiler sees what
divides them: that is what makes an access 16 bytes wide.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from .elementary import COMPILED
from .noise import normals_of_blocks, normals_of_elements

ALIGNED = tl.constexpr(16)  # elements: what Triton knows to be divided by it, it accesses in 16 bytes


# Places in Layout.operands.
WEIGHT, NOISE, GRAD_Z = tl.constexpr(-3), tl.constexpr(-2), tl.constexpr(-1)


class Operand(NamedTuple):
    """`kind` is "dense" (row * cols + col), "pitched" (row * stride + col), "row", "column", "scalar", "strided" (two
    lengths and strides for rows, two for columns), "zero" or "one" (no memory); of outputs also "sum"; of noise also
    "blocks": numbered as it is walked, so that four elements share a block."""

    kind: str
    stride: int = 0  # place of its first stride in `strides`


class Layout(NamedTuple):
    """What one compiled kernel is for."""

    operands: tuple[Operand | None, ...]  # inputs, outputs (None: nobody wants it), then WEIGHT, NOISE and GRAD_Z
    num_inputs: int
    sums: bool  # whether any output is summed
    float: tl.dtype  # of all arithmetic
    rows: int  # of a tile
    cols: int
    unit: int
    one_row: bool
    whole_rows: bool  # a tile has its rows' whole length; else they are walked in steps
    full_rows: bool  # no tile reaches beyond the last row
    full_cols: bool  # no tile reaches beyond the last column
    shifted: bool  # steps start where memory is aligned, before the row does
    wide: bool  # offsets beyond 32 bits


@triton.jit
def _offset(INDEX: tl.constexpr, space, place, L: tl.constexpr):
    OPERAND: tl.constexpr = L.operands[INDEX]
    AT: tl.constexpr = OPERAND.stride
    UNIT: tl.constexpr = L.unit
    sizes, strides = space
    row, col, linear = place[0], place[1], place[2]
    if OPERAND.kind == "dense":
        return linear
    elif OPERAND.kind == "pitched":
        return row * (strides[AT] * UNIT) + col
    elif OPERAND.kind == "row":
        return row
    elif OPERAND.kind == "column":
        return col
    elif OPERAND.kind == "scalar":
        return row * 0
    else:
        of_row = (row // sizes[2]) * strides[AT] + (row % sizes[2]) * strides[AT + 1]
        return of_row + (col // sizes[3]) * strides[AT + 2] + (col % sizes[3]) * strides[AT + 3]


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
    elif OPERAND.kind == "row":
        return _read(pointer + place[0], place[4], not L.full_rows).to(FLOAT)
    else:
        return _read(pointer + _offset(INDEX, space, place, L), place[5], EDGE or not L.full_rows).to(FLOAT)


@triton.jit
def _noise(noise, k, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """Noise of sample k: what was given, or the stream's."""
    FLOAT: tl.constexpr = L.float
    seed, eps, sample = noise
    if eps is not None:
        return _load(eps + k * sample[1], NOISE, space, place, L, EDGE)
    elif L.operands[NOISE].kind == "blocks":
        FOURTH: tl.constexpr = L.cols // 4
        block = (place[3] + k * sample[0]) // 4 + tl.arange(0, FOURTH)[None, :]
        return normals_of_blocks(tl.load(seed), block).to(FLOAT)
    else:
        return normals_of_elements(tl.load(seed), _offset(NOISE, space, place, L) + k * sample[0]).to(FLOAT)


@triton.jit
def _sample_gradients(noise, grad_z, samples, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """Sums over the samples of grad_z and of grad_z * eps."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    FLOAT: tl.constexpr = L.float
    grad = tl.zeros([ROWS, COLS], FLOAT)
    grad_eps = tl.zeros([ROWS, COLS], FLOAT)
    if L.operands[GRAD_Z].kind != "zero":
        for i in range(samples):
            k = i.to(tl.int64) if L.wide else i
            g = _load(grad_z + k * noise[2][2], GRAD_Z, space, place, L, EDGE)
            grad += g
            grad_eps += g * _noise(noise, k, space, place, L, EDGE)
    return grad, grad_eps


@triton.jit
def _place(row, start, space, L: tl.constexpr, EDGE: tl.constexpr):
    """Row, column and number of each element of a tile, the number of each row's first, which rows and which elements
    there are."""
    COLS: tl.constexpr = L.cols
    UNIT: tl.constexpr = L.unit
    cols = space[0][1] * UNIT
    if L.shifted:
        aligned = row * cols // ALIGNED * ALIGNED
        shift = row * cols - aligned
        first = aligned + start
        col = start + tl.arange(0, COLS)[None, :] - shift
    else:
        first = row * cols + start
        col = start + tl.arange(0, COLS)[None, :]
    row_inside = row < space[0][0]
    if EDGE:
        inside = (col < cols) & (col >= 0) if L.shifted else col < cols
        inside = inside if L.full_rows else inside & row_inside
    else:
        inside = row_inside
    return row, col, first + tl.arange(0, COLS)[None, :], first, row_inside, inside


@triton.jit
def _values(tensors, noise, space, place, L: tl.constexpr, EDGE: tl.constexpr):
    """What the formula reads."""
    inputs, _outputs, _weight, grad_z, samples = tensors
    values = ()
    for i in tl.static_range(len(inputs)):
        values = values + (_load(inputs[i], i, space, place, L, EDGE),)
    if L.operands[GRAD_Z] is not None:
        values = values + _sample_gradients(noise, grad_z, samples, space, place, L, EDGE)
    elif L.operands[NOISE] is not None:
        values = values + (_noise(noise, 0, space, place, L, EDGE),)
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
def _rounded(x, DTYPE: tl.constexpr):
    """To nearest, ties to even: float64 by way of float32, as torch does it."""
    if DTYPE.primitive_bitwidth == 16:
        x = x.to(tl.float32)
    if DTYPE == tl.bfloat16 and not COMPILED:  # the interpreter cuts off
        bits = x.to(tl.uint32, bitcast=True)
        bits = tl.where(x == x, bits + 0x7FFF + ((bits >> 16) & 1), bits)
        x = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    return x.to(DTYPE)


@triton.jit
def _tile(
    tensors,
    noise,
    space,
    scalars,
    row,
    start,
    FORMULA: tl.constexpr,
    READ: tl.constexpr,
    FLAGS: tl.constexpr,
    L: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Store a tile of each output that has its shape; return the terms of those that are summed."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    _inputs, outputs, weight_pointer, _grad_z, _samples = tensors
    place = _place(row, start, space, L, EDGE)
    inside = place[5]
    MASKED: tl.constexpr = EDGE or not L.full_rows
    values = _values(tensors, noise, space, place, L, EDGE)
    if L.operands[WEIGHT] is not None:
        weight = _load(weight_pointer, WEIGHT, space, place, L, EDGE)
        values = _without_dead(values, weight)
    results = FORMULA(values, scalars, READ, FLAGS)
    terms = ()
    for i in tl.static_range(len(outputs)):
        if L.operands[L.num_inputs + i] is not None:
            result = tl.broadcast_to(results[i], [ROWS, COLS])
            if L.operands[WEIGHT] is not None:
                result = tl.where(weight == 0.0, 0.0, result * weight)
            if L.operands[L.num_inputs + i].kind == "sum":
                terms = terms + (tl.where(inside, result, 0.0) if MASKED else result,)
            else:
                pointer = outputs[i] + _offset(L.num_inputs + i, space, place, L)
                result = _rounded(result, outputs[i].dtype.element_ty)
                if MASKED:
                    tl.store(pointer, result, inside)
                else:
                    tl.store(pointer, result)
    return terms


@triton.jit
def _store_sums(tensors, terms, scale, index, inside, L: tl.constexpr):
    outputs = tensors[1]
    for i in tl.static_range(len(outputs)):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == "sum":
                tl.store(outputs[i] + index, tl.sum(terms[0], 1) * scale, inside)
                terms = terms[1:]


@triton.jit
def _add(totals, terms):
    result = ()
    for i in tl.static_range(len(totals)):
        result = result + (totals[i] + terms[i],)
    return result


@triton.jit
def _nothing(L: tl.constexpr):
    """A zero for each sum."""
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    FLOAT: tl.constexpr = L.float
    totals = ()
    for i in tl.static_range(len(L.operands) - L.num_inputs - 3):
        if L.operands[L.num_inputs + i] is not None:
            if L.operands[L.num_inputs + i].kind == "sum":
                totals = totals + (tl.zeros([ROWS, COLS], FLOAT),)
    return totals


@triton.jit
def walk(
    tensors,
    noise,
    space,
    scalars,
    sum_scale,
    parts,
    span,
    FORMULA: tl.constexpr,
    READ: tl.constexpr,
    FLAGS: tl.constexpr,
    L: tl.constexpr,
):
    """FORMULA(values, scalars, READ, FLAGS) is what is computed; functions stand alone, since Triton's cache on disk
    knows the source of none that is within a tuple.

    tensors: inputs, outputs, weight, gradient of the samples, their number. noise: seed, given noise, elements from one
    sample to the next in the stream, the given noise and the gradient. space: rows, columns, inner rows and columns;
    strides.
    """
    ROWS: tl.constexpr = L.rows
    COLS: tl.constexpr = L.cols
    program = tl.program_id(0)
    if L.whole_rows:
        rows = program * ROWS + tl.arange(0, ROWS)
        row = rows[:, None].to(tl.int64) if L.wide else rows[:, None]
        terms = _tile(tensors, noise, space, scalars, row, 0, FORMULA, READ, FLAGS, L, not L.full_cols)
        _store_sums(tensors, terms, sum_scale, rows, rows < space[0][0], L)
    else:
        part = program % parts
        row = tl.full([1, 1], 0, tl.int32) if L.one_row else tl.full([1, 1], 0, tl.int32) + program // parts
        if L.wide:
            part = part.to(tl.int64)
            row = row.to(tl.int64)
        cols = space[0][1] * L.unit
        shift = tl.sum(row * cols % ALIGNED) if L.shifted else 0
        end = cols + shift
        totals = _nothing(L)
        for start in range(part * span, tl.minimum(part * span + span, end), COLS):
            if L.full_cols:
                totals = _add(totals, _tile(tensors, noise, space, scalars, row, start, FORMULA, READ, FLAGS, L, False))
            else:
                inner = (start >= shift) & (start + COLS <= end)
                if L.sums:
                    if inner:
                        totals = _add(
                            totals, _tile(tensors, noise, space, scalars, row, start, FORMULA, READ, FLAGS, L, False)
                        )
                    else:
                        totals = _add(
                            totals, _tile(tensors, noise, space, scalars, row, start, FORMULA, READ, FLAGS, L, True)
                        )
                else:  # Triton carries no empty tuple out of a branch
                    if inner:
                        _tile(tensors, noise, space, scalars, row, start, FORMULA, READ, FLAGS, L, False)
                    else:
                        _tile(tensors, noise, space, scalars, row, start, FORMULA, READ, FLAGS, L, True)
        _store_sums(tensors, totals, sum_scale, program + tl.arange(0, 1), tl.full([1], 1, tl.int1), L)


@triton.jit
def sum_parts(partial, total, scale, rows, parts, ROWS: tl.constexpr, PARTS: tl.constexpr):
    """The sums of rows [rows, parts] of partial sums, each in the order of its parts."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.arange(0, PARTS)
    inside = (row < rows)[:, None] & (part < parts)[None, :]
    terms = tl.load(partial + row[:, None] * parts + part[None, :], inside, other=0.0)
    tl.store(total + row, tl.sum(terms, 1) * scale, row < rows)
