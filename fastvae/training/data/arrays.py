"""A NumPy file, mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .dataset import Dataset, split


class MappedArray:
    """Rows of an array on a disk, read as they are wanted."""

    def __init__(self, values: np.ndarray, image_shape: tuple[int, ...]) -> None:
        self.values, self.image_shape = values, image_shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Tensor:
        rows = self.values[index.numpy()]
        kept = rows if rows.dtype in (np.uint8, np.bool_) else rows.astype(np.float32, copy=False)
        return torch.from_numpy(kept).reshape(-1, *self.image_shape)


def array(path: Path) -> Dataset:
    """[n, height, width], [n, channels, height, width] or [n, size]: uint8, bool or floating, which becomes float32."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole .npy file: {error}") from error
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path}: an archive; wanted one array, as numpy.save writes it")
    if values.dtype not in (np.uint8, np.bool_) and values.dtype.kind != "f":
        raise DataError(f"{path}: {values.dtype}; wanted uint8, bool or floating")
    if values.ndim not in (2, 3, 4) or len(values) < 2 or 0 in values.shape:
        wanted = "[n, height, width], [n, channels, height, width] or [n, size], with two rows or more"
        raise DataError(f"{path}: shape {list(values.shape)}; wanted {wanted}")
    image_shape = (1,) * (4 - values.ndim) + values.shape[1:]
    return split(MappedArray(values, image_shape), None, image_shape)
