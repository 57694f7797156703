"""A folder of image files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...extras import require
from ..errors import DataError
from .dataset import Dataset, Images, everything, split

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
GREY = ("1", "L", "I;16", "LA")  # Pillow's names; all others are read as RGB
IN_MEMORY = 2**30  # a folder that takes no more bytes is decoded once


class ImageFiles:
    """Images of one size, decoded as they are wanted: uint8 [k, channels, height, width].

    Pillow decodes outside Python's lock, so threads serve.
    """

    def __init__(self, paths: Sequence[Path], image_shape: tuple[int, ...]) -> None:
        self.paths, self.image_shape = paths, image_shape
        self.threads = ThreadPoolExecutor(min(len(paths), 2 * (os.cpu_count() or 1)), "decode")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        decoded = self.threads.map(lambda i: decode(self.paths[i], self.image_shape), index.tolist())
        return torch.from_numpy(np.stack(list(decoded)))


def image_folder(folder: Path) -> Dataset:
    """JPEG, PNG and WebP files under `folder`, all of the first one's size and colour.

    Where every file lies in a subfolder, the subfolders are the classes. Every file's header is read before work
    begins, and every file is decoded where the whole takes less than a gigabyte.
    """
    require("PIL", extra="train")
    if not folder.is_dir():
        raise DataError(f"{folder}: no directory")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(paths) < 2:
        raise DataError(f"{folder}: {len(paths)} images; wanted two or more of {', '.join(SUFFIXES)}")
    image_shape = _shape(paths[0])
    files = ImageFiles(paths, image_shape)
    _every(files.threads, lambda path: _check(path, paths[0], image_shape), paths)
    images: Images = files
    if len(paths) * int(np.prod(image_shape)) <= IN_MEMORY:
        images = everything(files)
    return split(images, _labels(folder, paths), image_shape)


def decode(path: Path, image_shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of `image_shape`, (channels, height, width)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if image_shape[0] == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from error
    return pixels.reshape(*image_shape[1:], image_shape[0]).transpose(2, 0, 1)


def _shape(path: Path) -> tuple[int, ...]:
    """From the header alone."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return 1 if image.mode in GREY else 3, image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: does not decode: {str(error).splitlines()[0] if str(error) else type(error).__name__}")


def _check(path: Path, first: Path, wanted: tuple[int, ...]) -> None:
    _, height, width = _shape(path)
    if (height, width) != wanted[1:]:
        raise DataError(f"{path}: {width}x{height} pixels, where {first.name} has {wanted[2]}x{wanted[1]}")


def _every(threads: ThreadPoolExecutor, call: Callable[[Path], Any], paths: Iterable[Path]) -> None:
    for _ in threads.map(call, paths):
        pass


def _labels(folder: Path, paths: Sequence[Path]) -> Tensor | None:
    names = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
    classes = sorted({name for name in names if name is not None})
    if None in names or len(classes) < 2:
        return None
    return torch.tensor([classes.index(str(name)) for name in names])
