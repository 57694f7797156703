"""Data sets by name, `KIND` or `KIND:PATH`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from .arrays import array
from .dataset import Dataset, Images, Split, everything
from .digits import handwritten_digits
from .files import image_folder
from .idx import mnist

__all__ = ["SOURCES", "Dataset", "Images", "Split", "everything", "handwritten_digits", "open_dataset", "resolved"]

# By kind: what opens it, of a path where it takes one.
SOURCES: dict[str, Callable[[Path], Dataset]] = {"mnist": mnist, "npy": array, "images": image_folder}


def open_dataset(name: str) -> Dataset:
    """`digits`, `mnist:DIR`, `npy:FILE` or `images:DIR`.

    Raises DataError, naming the file, for what cannot be read or is something else; MissingExtraError for a module that
    is not installed.
    """
    kind, _, path = name.partition(":")
    if name == "digits":
        return handwritten_digits()
    if kind not in SOURCES or not path:
        raise DataError(f"data {name!r}: wanted digits, mnist:DIR, npy:FILE or images:DIR")
    return SOURCES[kind](Path(path))


def resolved(name: str) -> str:
    """`name` with an absolute path: it holds in another working directory."""
    kind, _, path = name.partition(":")
    return f"{kind}:{Path(path).resolve()}" if path else name
