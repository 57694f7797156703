"""Data sets that need no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..extras import require


@dataclass(frozen=True)
class Split:
    """Images [n, pixels], float32 in [0, 1], and their labels [n], int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Dataset:
    train: Split
    test: Split
    image_shape: tuple[int, int]


def handwritten_digits(num_train: int = 1536) -> Dataset:
    """scikit-learn's handwritten digits: 1797 images of 8x8, grey values 0..16 divided by 16.

    The values are targets of a Bernoulli likelihood as they are, not binarised. The split is the same in every run;
    1536 training images are 12 batches of 128. Raises MissingExtraError without scikit-learn.

    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """
    require("sklearn", extra="train")
    from sklearn.datasets import load_digits

    digits = load_digits()
    if not 0 < num_train < len(digits.data):
        raise ValueError(f"num_train is {num_train}; 1 to {len(digits.data) - 1} leave images on both sides")
    # The file is ordered by writer: unshuffled, the test set would hold other hands than the training set.
    order = np.random.default_rng(0).permutation(len(digits.data))
    images = torch.from_numpy(digits.data[order]).float() / 16
    labels = torch.from_numpy(digits.target[order])
    train = Split(images[:num_train], labels[:num_train])
    return Dataset(train, Split(images[num_train:], labels[num_train:]), (8, 8))
