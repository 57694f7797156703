"""From shapes and strides to what a kernel is compiled for and how it is launched; integers only, no tensor."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .layout import ALIGNED, Operand

Strides = Sequence[int]

TILE = 2048  # elements of a program's tile
PER_THREAD = 16  # of them: 16 bytes of uint8, and two to four loads of an operand under way
PROGRAMS = 1024  # enough of them to fill the largest GPUs; more would only add partial sums
COLUMN_TILE = 1024  # elements of a tile where rows are summed over,
PER_THREAD_SUMMED = 8  # and of them: a total takes a register, and what it has lost another
MOST_COLUMNS = 256
ROWS_PER_PART = 32  # at least, of those whose sum is one number
MAX_PARTS = 4096  # partial sums of a row, which one tile adds up


class UnmergeableError(Exception):
    """More distinct strides than the kernel walks; copies of the operands have fewer."""


class Flat(NamedTuple):
    """Two dimensions instead of many: rows, and columns that are summed over, each in two levels at most."""

    rows: int
    cols: int
    inner_rows: int
    inner_cols: int
    strides: list[tuple[int, int, int, int]]  # of each operand: outer rows, inner rows, outer cols, inner cols


def flatten(shape: Sequence[int], batch_ndim: int, operands: Sequence[Strides], sums: bool) -> Flat:
    """Merge neighbouring dimensions that every operand steps through as one; the event's in the order of memory.

    Raises UnmergeableError where more than two rows' or two columns' dimensions remain.
    """
    order = [*range(batch_ndim), *_event_order(shape, batch_ndim, operands)]
    order = [d for d in order if shape[d] != 1]
    if not sums:
        groups = _merge(shape, order, 0, operands)
        if len(groups) <= 1:
            return _flat(shape, [], groups, operands)
    groups = _merge(shape, order, batch_ndim, operands)
    rows = [group for group in groups if group[0] < batch_ndim]
    cols = [group for group in groups if group[0] >= batch_ndim]
    if len(rows) > 2 or len(cols) > 2:
        raise UnmergeableError
    return _flat(shape, rows, cols, operands)


def _event_order(shape: Sequence[int], batch_ndim: int, operands: Sequence[Strides]) -> list[int]:
    """As the first operand that steps through all of the event has it in memory."""
    event = range(batch_ndim, len(shape))
    guide = next((o for o in operands if all(o[d] or shape[d] == 1 for d in event)), None)
    return list(event) if guide is None else sorted(event, key=lambda d: -guide[d])


def is_in_order(shape: Sequence[int], batch_ndim: int, operands: Sequence[Strides]) -> bool:
    """Whether the event's dimensions are walked as the shape has them."""
    order = [d for d in _event_order(shape, batch_ndim, operands) if shape[d] != 1]
    return order == sorted(order)


def _merge(shape: Sequence[int], order: list[int], border: int, operands: Sequence[Strides]) -> list[list[int]]:
    groups: list[list[int]] = []
    for d in order:
        outer = groups[-1][-1] if groups else None
        if (
            outer is not None
            and (outer < border) == (d < border)
            and all(o[outer] == o[d] * shape[d] for o in operands)
        ):
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups


def _flat(shape: Sequence[int], rows: list[list[int]], cols: list[list[int]], operands: Sequence[Strides]) -> Flat:
    sizes = {id(group): math.prod(shape[d] for d in group) for group in (*rows, *cols)}

    def length(groups: list[list[int]]) -> int:
        return math.prod(sizes[id(group)] for group in groups)

    def levels(operand: Strides, groups: list[list[int]]) -> tuple[int, int]:
        inner = operand[groups[-1][-1]] if groups else 0
        return (operand[groups[0][-1]] if len(groups) == 2 else 0), inner

    return Flat(
        length(rows),
        length(cols),
        sizes[id(rows[-1])] if rows else 1,
        sizes[id(cols[-1])] if cols else 1,
        [(*levels(operand, rows), *levels(operand, cols)) for operand in operands],
    )


def kind_of(flat: Flat, strides: tuple[int, int, int, int]) -> tuple[str, tuple[int, ...]]:
    """An operand's kind, see rows.Operand, and the strides that it needs."""
    outer_row, inner_row, outer_col, inner_col = strides
    one_pitch = flat.inner_rows == flat.rows or outer_row == inner_row * flat.inner_rows
    same_row = outer_row == inner_row == 0
    if outer_col == inner_col == 0 or flat.cols == 1:
        if same_row or flat.rows == 1:
            return "scalar", ()
        return ("row", ()) if one_pitch and inner_row == 1 else ("rows", (outer_row, inner_row))
    if inner_col == 1 and (flat.inner_cols == flat.cols or outer_col == flat.inner_cols):
        if flat.rows == 1:
            return "dense", ()
        if same_row:
            return "column", ()
        if one_pitch:
            return ("dense", ()) if inner_row == flat.cols else ("pitched", (inner_row,))
    return "strided", strides


def unit_of(flat: Flat, operands: Sequence[tuple[str, tuple[int, ...]]]) -> int:
    """What divides every row's start: a power of two."""
    pitches = [stride for kind, strides in operands if kind == "pitched" for stride in strides]
    return math.gcd(ALIGNED.value, flat.cols, *pitches)


def is_shifted(flat: Flat, operands: Collection[tuple[str, tuple[int, ...]]], unit: int) -> bool:
    """Whether steps start where memory is aligned rather than where rows do: long dense rows of an odd length."""
    in_memory = {kind for kind, _ in operands} - {"row", "rows", "scalar"}
    return in_memory <= {"dense"} and flat.rows > 1 and flat.cols > TILE and unit < ALIGNED.value


def by_fours(flat: Flat, noise: tuple[str, tuple[int, ...]], tiling: Tiling, shifted: bool) -> bool:
    """Whether each four elements of a tile take their noise from one block."""
    rows_start_with_blocks = flat.rows == 1 or shifted or flat.cols % 4 == 0
    return noise[0] == "dense" and rows_start_with_blocks and tiling.cols % 4 == 0


class Tiling(NamedTuple):
    rows: int
    cols: int
    whole_rows: bool
    parts: int  # of a row; in blocks of columns, of all rows
    span: int  # columns, or rows, of a part
    warps: int
    blocks: int = 0  # of columns, where parts are of the rows


def tile(flat: Flat, sums: bool, shifted: bool, warp: int) -> Tiling:
    """Short rows whole, several to a program; long rows in steps of a tile, in parts where there are few."""
    if (flat.rows > 1 and flat.cols <= TILE) or flat.cols <= 32:
        cols = power_of_two(flat.cols)
        rows = min(TILE // cols, power_of_two(math.ceil(flat.rows / PROGRAMS)))
        # A warp at least: several rows of a few columns.
        rows = max(rows, min(power_of_two(flat.rows), max(1, 128 // cols)))
        return Tiling(rows, cols, True, 1, cols, _warps(rows * cols, warp))
    cols = min(TILE, max(256, power_of_two(math.ceil(flat.rows * flat.cols / PROGRAMS))))
    length = flat.cols + (ALIGNED.value if shifted else 0)
    tiles = math.ceil(length / cols)
    steps = max(1, flat.rows * tiles // PROGRAMS, math.ceil(tiles / MAX_PARTS)) if sums else 1
    steps = min(steps, tiles)
    return Tiling(1, cols, False, math.ceil(tiles / steps), steps * cols, _warps(cols, warp))


def tile_columns(flat: Flat, warp: int) -> Tiling:
    """Parts of the rows, in blocks of columns; a part is rows enough for its sums to be few beside what is read."""
    cols = min(MOST_COLUMNS, power_of_two(flat.cols))
    rows = min(COLUMN_TILE // cols, power_of_two(flat.rows))
    tiles, blocks = math.ceil(flat.rows / rows), math.ceil(flat.cols / cols)
    steps = max(math.ceil(tiles * blocks / PROGRAMS), math.ceil(ROWS_PER_PART / rows))
    steps = min(steps, tiles)
    warps = _warps(rows * cols * PER_THREAD // PER_THREAD_SUMMED, warp)
    return Tiling(rows, cols, False, math.ceil(tiles / steps), steps * rows, warps, blocks)


def programs(flat: Flat, tiling: Tiling) -> int:
    if tiling.blocks:
        return tiling.parts * tiling.blocks
    return math.ceil(flat.rows / tiling.rows) if tiling.whole_rows else flat.rows * tiling.parts


def _warps(elements: int, warp: int) -> int:
    return max(1, elements // (PER_THREAD * warp))


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def kinds(flat: Flat) -> list[tuple[str, tuple[int, ...]]]:
    return [kind_of(flat, strides) for strides in flat.strides]


def with_places(operands: Sequence[tuple[str, tuple[int, ...]]], unit: int) -> tuple[list[Operand], tuple[int, ...]]:
    """Operands as the kernel takes them, and the strides that they point to; pitches in units."""
    placed: list[Operand] = []
    flat: list[int] = []
    for kind, strides in operands:
        placed.append(Operand(kind, len(flat)))
        flat += [stride // unit for stride in strides] if kind == "pitched" else strides
    return placed, tuple(flat)
