"""What a data set is, and how one that comes in one piece is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Images(Protocol):
    """Images by number: a tensor [n, *image_shape], or what reads such from a disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> Tensor:
        """[k, *image_shape] of int64 `index` [k]: uint8 0..255, bool, or float32."""
        ...


@dataclass(frozen=True)
class Split:
    """Images, and their classes [n], int64, where they are known."""

    images: Images
    labels: Tensor | None = None


@dataclass(frozen=True)
class Dataset:
    """`image_shape` is (channels, height, width); rows of numbers are images of one line, (1, 1, size)."""

    train: Split
    test: Split
    image_shape: tuple[int, ...]


def everything(images: Images) -> Tensor:
    return images[torch.arange(len(images))]


@dataclass(frozen=True)
class Chosen:
    """Some of the images, by number."""

    images: Images
    chosen: Tensor

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.images[self.chosen[index]]


def shuffled(count: int) -> Tensor:
    """The numbers to `count` in an order that is the same in every run: files come sorted by class or writer."""
    return torch.from_numpy(np.random.default_rng(0).permutation(count))


def split(images: Images, labels: Tensor | None, image_shape: tuple[int, ...]) -> Dataset:
    """A tenth to test, at least one image, and the others to train."""
    order = shuffled(len(images))
    parts = order.tensor_split([len(order) - max(len(order) // 10, 1)])
    train, test = (Split(Chosen(images, part), None if labels is None else labels[part]) for part in parts)
    return Dataset(train, test, image_shape)
