"""Likelihoods of classes: formulas of rows, the last dimension, and not of elements."""

from __future__ import annotations

from ._likelihood import Likelihood
from ._operator import Operator

ROW_LIKELIHOODS: dict[str, Operator] = {}  # every one that was declared


class RowLikelihood(Likelihood):
    """A likelihood whose event is a row. Its formula takes whole rows and gives one value for each, [..., 1].

    `event_ndim` is 1 at least: what is more sums the rows. A weight has one value for each row, [*batch, 1].
    """

    registry = ROW_LIKELIHOODS
    of_rows = True
