"""What stops a run with one line for its user."""

from __future__ import annotations


class TrainingError(Exception):
    """Says in one line what is wrong with arguments, data, a checkpoint, or a run."""


class DataError(TrainingError):
    """Data that cannot be read, or are not what was asked for."""


class CheckpointError(TrainingError):
    """A file that is no whole checkpoint of this model."""


class BadBatchError(TrainingError):
    """A step whose loss or gradient is not finite."""
