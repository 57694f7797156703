"""How a matrix that is never whole in memory is walked: in chunks that stay in a cache of the device."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

MIB = 2**20


class Rule(NamedTuple):
    """A chunk, its gradient included, fills a share of the cache, and has whole rows unless these were too few.

    Of a softmax rows are whole in every chunk: `least_rows` then are more than the cache holds, and the likelihood's
    kernels take as many at a time as it does.
    """

    share: float
    least_rows: int  # fewer rows would have the weights moved more often than their products are worth
    cache: int  # bytes, where the device does not tell


# By type of device: of a CPU the last-level cache, of a GPU L2. What is not here is taken for a GPU.
RULES = {
    "cpu": Rule(share=1 / 4, least_rows=128, cache=8 * MIB),
    "cuda": Rule(share=1 / 2, least_rows=1024, cache=32 * MIB),
}
COLUMNS = 64  # of which a chunk has a multiple, where it has not all
Box = tuple[slice, ...]


def rule(device: torch.device) -> Rule:
    return RULES.get(device.type, RULES["cuda"])


def chunk_elements(device: torch.device, dtype: torch.dtype) -> int:
    """Of a chunk in that dtype."""
    return int(rule(device).share * cache_bytes(device)) // (2 * dtype.itemsize)


def cache_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return _l2_bytes(device.index)
    return (_last_level_bytes() if device.type == "cpu" else None) or rule(device).cache


@functools.cache
def _l2_bytes(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index).L2_cache_size)


@functools.cache
def _last_level_bytes() -> int | None:
    """As Linux tells it; sysconf gives the sum over a server's sockets."""
    try:
        sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
        return max((int(size.removesuffix("K")) * 1024 for size in sizes), default=None)
    except (OSError, ValueError):
        return None


def on(device: torch.device, dtype: torch.dtype, rows: int, columns: int, whole_rows: bool = False) -> tuple[int, int]:
    """(rows, columns) of a chunk on a device."""
    if whole_rows:
        return _even(rows, max(rows_in_cache(device, dtype, columns), rule(device).least_rows)), columns
    return chunk_shape(rows, columns, chunk_elements(device, dtype), rule(device).least_rows)


def rows_in_cache(device: torch.device, dtype: torch.dtype, columns: int) -> int:
    """Whole ones, as many as a chunk has elements for."""
    return max(chunk_elements(device, dtype) // max(columns, 1), 1)


def chunk_shape(rows: int, columns: int, elements: int, least_rows: int) -> tuple[int, int]:
    """About so many elements: as even as the whole allows."""
    most_rows = max(elements // max(columns, 1), least_rows)
    chunk_rows = _even(rows, most_rows)
    chunk_columns = _even(columns, max(elements // max(chunk_rows, 1), COLUMNS))
    return chunk_rows, min(columns, math.ceil(chunk_columns / COLUMNS) * COLUMNS)


def _even(whole: int, most: int) -> int:
    return math.ceil(whole / max(math.ceil(whole / most), 1))


def boxes(shape: Sequence[int], rows: int) -> Iterator[Box]:
    """Of an array of rows: parts of at most `rows` of them that lie side by side, in order."""
    if 0 in shape:
        return
    if not shape:
        yield ()
        return
    first, inner = shape[0], math.prod(shape[1:])
    whole = (slice(None),) * (len(shape) - 1)
    for part in intervals(first, _even(first, max(rows // inner, 1))):
        for rest in [whole] if inner <= rows else boxes(shape[1:], rows):
            yield part, *rest


def intervals(whole: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, whole)) for start in range(0, whole, max(step, 1)))


def inside(box: Box, inner: Box, shape: Sequence[int]) -> Box:
    """What `inner` is of the part `box` of an array of that shape."""
    starts = (outer.indices(size)[0] for outer, size in zip(box, shape, strict=True))
    return tuple(
        outer if s.start is None else slice(start + s.start, start + s.stop)
        for outer, s, start in zip(box, inner, starts, strict=True)
    )


def part(tensor: torch.Tensor, box: Box) -> torch.Tensor:
    """Of a tensor that broadcasts to what `box` is a part of: a view."""
    behind = box[len(box) - tensor.dim() :]
    return tensor[tuple(slice(None) if size == 1 else s for size, s in zip(tensor.shape, behind, strict=True))]
