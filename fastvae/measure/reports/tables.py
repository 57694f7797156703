"""Tables as text: aligned columns that are Markdown as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str, padded: bool = True) -> str:
    """`sides` has "l" or "r" for each column, or for the first and for all others.

    Without padding, a row that changes leaves the other lines as they are.
    """
    sides = sides if len(sides) == len(header) else sides[0] + sides[1] * (len(header) - 1)
    lines = [header, *rows]
    widths = [{"l": 3, "r": 4}[side] for side in sides]  # the shortest rules that Markdown knows
    if padded:
        widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
        lines = [_padded(cells, widths, sides) for cells in lines]
    rule = ["-" * width if side == "l" else "-" * (width - 1) + ":" for width, side in zip(widths, sides, strict=True)]
    return "\n".join(map(_line, (lines[0], rule, *lines[1:])))


def without_empty(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The columns that hold something."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _padded(cells: Sequence[str], widths: Sequence[int], sides: str) -> list[str]:
    columns = zip(cells, widths, sides, strict=True)
    return [cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in columns]


def _line(cells: Sequence[str]) -> str:
    return ("| " + " | ".join(cells) + " |").replace("|  |", "| |")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}" if abs(seconds) < 100 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(count: float | None) -> str:
    if count is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}" if count < 100 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"


def number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
