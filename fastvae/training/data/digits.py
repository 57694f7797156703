"""Handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch

from ...extras import require
from .dataset import Dataset, Split, shuffled


def handwritten_digits(num_train: int = 1437) -> Dataset:
    """scikit-learn's handwritten digits: 1797 images of 1x8x8, float32, grey values 0..16 divided by 16.

    The values are targets of a Bernoulli likelihood as they are, not binarised. The split is the same in every run: of
    one order the first `num_train` images, and the others, 360, to test. Raises MissingExtraError without scikit-learn.

    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """
    require("sklearn", extra="train")
    from sklearn.datasets import load_digits

    digits = load_digits()
    if not 0 < num_train < len(digits.data):
        raise ValueError(f"num_train is {num_train}; 1 to {len(digits.data) - 1} leave images on both sides")
    # The file is ordered by writer: unshuffled, the test set would hold other hands than the training set.
    order = shuffled(len(digits.data)).numpy()
    images = torch.from_numpy(digits.images[order]).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target[order])
    train, test = Split(images[:num_train], labels[:num_train]), Split(images[num_train:], labels[num_train:])
    return Dataset(train, test, (1, 8, 8))
