"""MNIST's file format, which Fashion-MNIST, Kuzushiji-MNIST and EMNIST share."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .dataset import Dataset, Split

# Two zero bytes, the type of the elements (8: unsigned byte), the number of dimensions; then their sizes, big-endian.
UNSIGNED_BYTE = 8
# Of either split what its images' and labels' names contain; "t10k" is MNIST's, "test" EMNIST's.
NAMES = {"train": ("*train*",), "test": ("*t10k*", "*test*")}


def mnist(folder: Path) -> Dataset:
    """Training and test images [n, 1, height, width], uint8, and labels; each file gzipped or not."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no directory")
    train, test = (_split(folder, name) for name in NAMES)
    shapes = [images.shape[1:] for images, _ in (train, test)]
    if shapes[0] != shapes[1]:
        sizes = " and ".join(str(list(shape[1:])) for shape in shapes)
        raise DataError(f"{folder}: training and test images differ in size, {sizes}")
    return Dataset(Split(*train), Split(*test), tuple(shapes[0]))


def _split(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Images [n, 1, height, width] and labels [n]."""
    images = read(_file(folder, name, "images-idx3", "images.idx3"), 3).unsqueeze(1)
    path = _file(folder, name, "labels-idx1", "labels.idx1")
    labels = read(path, 1).long()
    if len(labels) != len(images):
        raise DataError(f"{path}: {len(labels)} labels for {len(images)} images")
    return images, labels


def _file(folder: Path, name: str, *kinds: str) -> Path:
    patterns = [f"{start}{kind}*" for start in NAMES[name] for kind in kinds]
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if len({path.name.removesuffix(".gz") for path in found}) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: wanted one file of {name} {kinds[0]}-ubyte, gzipped or not; found {names}")
    return found[0]


def read(path: Path, ndim: int) -> Tensor:
    """The uint8 tensor of `ndim` dimensions in an IDX file. Raises DataError."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from error
    start = 4 + 4 * ndim
    if data[:4] != bytes([0, 0, UNSIGNED_BYTE, ndim]):
        raise DataError(f"{path}: begins with {data[:4].hex() or 'nothing'}, an IDX file of bytes with 0000080{ndim}")
    shape = [int(size) for size in np.frombuffer(data[:start].ljust(start, b"\0"), ">i4", offset=4)]
    if len(data) != start + math.prod(shape) or min(shape) < 1:
        raise DataError(f"{path}: {len(data)} bytes, where shape {shape} takes {start + math.prod(shape)}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())
