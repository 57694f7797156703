"""The directory of a run: one process at a time, one run for good."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import remove_unfinished, writable_directory
from . import checkpoint, history
from .errors import TrainingError


def check_unused(out: Path) -> None:
    """Raises TrainingError where `out` holds a run."""
    held = [name for name in (checkpoint.NAME, history.NAME) if (out / name).exists()]
    if held:
        raise TrainingError(f"{out}: holds a run, {held[0]}: --resume goes on with it, another --out begins anew")


@contextlib.contextmanager
def claimed(out: Path, pictures: Sequence[str]) -> Iterator[None]:
    """`out` is made where it is missing, and is this process's.

    Raises TrainingError where another process trains in it; OSError where it, or a file to come, cannot be written.
    """
    names = (checkpoint.NAME, history.NAME, *pictures)
    writable_directory(out, names)
    with _locked(out):
        for name in names:
            remove_unfinished(out / name)
        yield


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # no POSIX
        yield
        return
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{out}: another process trains here") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
