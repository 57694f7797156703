"""What a launch tells the kernel that walks rows: where operands lie, and what it may take for granted.

Where an operand has the element (row, col) is said by its kind and the place of its first stride in `strides`, both
constants that `plan.py` chooses. Lengths and pitches come in units of `unit` elements, so that the compiler sees what
divides them: that is what makes an access 16 bytes wide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl

ALIGNED = tl.constexpr(16)  # elements: what Triton knows to be divided by it, it accesses in 16 bytes

# Places in Layout.operands.
WEIGHT, NOISE, GRAD_Z = tl.constexpr(-3), tl.constexpr(-2), tl.constexpr(-1)


class Operand(NamedTuple):
    """How one operand lies in memory. `kind` is

    - "dense": element row * cols + col
    - "pitched": element row * stride + col
    - "row", "column", "scalar": an element for each row, for each column, for all
    - "rows": an element for each row, two lengths and strides
    - "strided": two lengths and strides for rows, two for columns
    - "zero", "one": no memory, but that number
    - "sum", of an output: an element for each row, of what is summed
    - "shared", of an output: an element for each column and part of the rows, of what is summed over the part
    - "blocks", of noise: numbered as it is walked, so that four elements share a block
    """

    kind: str
    stride: int = 0  # place of its first stride in `strides`


class Layout(NamedTuple):
    """What one compiled kernel is for."""

    operands: tuple[Operand | None, ...]  # inputs, outputs (None: nobody wants it), then WEIGHT, NOISE and GRAD_Z
    num_inputs: int
    sums: bool  # whether any output is summed
    in_parts: bool  # whether `sum_parts` ends the sums
    cut: bool  # whether torch ends them: rows are finer than what is summed
    by_columns: bool  # a part is one of the rows, in a block of columns
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


class Memory(NamedTuple):
    """Pointers; None where there is nothing."""

    inputs: Any
    outputs: Any
    weight: Any
    seed: Any
    eps: Any
    grad_z: Any


class Steps(NamedTuple):
    """Elements from one sample to the next."""

    drawn: Any  # in the noise stream
    eps: Any
    grad_z: Any


class Space(NamedTuple):
    """Lengths and strides."""

    rows: Any
    cols: Any  # in units
    inner_rows: Any
    inner_cols: Any
    strides: Any
    samples: Any
    steps: Any
