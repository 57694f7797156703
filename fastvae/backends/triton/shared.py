"""Gradients of what several rows or elements share: how the kernel walks for them, and how torch ends their sums.

Rows are cut until each of these gradients is one number for each row, or for each column: the kernel then leaves few
numbers, a part of the way to the sum. Where no cut serves them all, it leaves them at full shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

Shape = Sequence[int]


class Cut(NamedTuple):
    """Which dimensions are rows, the leading ones, and whether what is shared has a number for each column."""

    rows_ndim: int
    by_columns: bool


class End(NamedTuple):
    """What a kernel has written, to be summed over `dims` of its `view`."""

    view: Shape
    dims: tuple[int, ...]
    shape: Shape

    def of(self, written: Tensor) -> Tensor:
        return written.view(self.view).sum(self.dims).reshape(self.shape)


def is_shared(result: Shape, shape: Shape, event_ndim: int) -> bool:
    """Whether a result of this shape is such a gradient: neither full nor one number for each event."""
    by_rows = event_ndim > 0 and math.prod(result[len(shape) - event_ndim :]) == 1
    return result != shape and not by_rows


def cut_for(shared: Sequence[Shape], shape: Shape, batch_ndim: int, sums: bool) -> Cut | None:
    """The cut that serves them; of sums over events besides, if any, rows must be parts."""
    dims = [d for d, size in enumerate(shape) if size != 1]
    kept = [[d for d in dims if each[d] != 1] for each in shared]
    first, last = (min(kept, default=[]), max((each[-1] for each in kept if each), default=-1))
    if first and all(each == [d for d in dims if d >= first[0]] for each in kept):
        cut = Cut(first[0], True)
    elif last < dims[-1]:
        cut = Cut(last + 1, False)
    else:
        return None
    return cut if not sums or cut.rows_ndim >= batch_ndim else None


def end_of_terms(result: Shape, shape: Shape) -> End:
    """Of what was left at full shape."""
    return End(shape, tuple(d for d, size in enumerate(result) if size != shape[d]), result)


def end_of_parts(result: Shape, shape: Shape, cut: Cut, parts: int) -> End:
    """Of a number for each row, or for each column, and part."""
    if cut.by_columns:
        return End((parts, math.prod(result)), (0,), result)
    view = (*shape[: cut.rows_ndim], parts)
    summed = [d for d in range(cut.rows_ndim) if result[d] != shape[d]]
    return End(view, (*summed, cut.rows_ndim), result)


def end_of_sum(result: Shape, count: int) -> End:
    """Of so many numbers of rows, parts of what is one event's."""
    of_each = count // math.prod(result)
    return End((math.prod(result), of_each), (1,), result)
