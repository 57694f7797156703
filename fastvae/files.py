"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to: it takes the name `path` when the block ends, and vanishes when it fails.

    With `durable`, what was written is on the disk before it takes the name: a loss of power leaves the old file or the
    new one.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable and os.name == "posix":
                _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block that names no file, such as that of a disk that is full, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def remove_unfinished(path: Path) -> None:
    """What a process that was killed left of `whole_file(path)`. Only where no other is writing it."""
    for temporary in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable_directory(path: Path, names: Iterable[str] = ()) -> Path:
    """Create `path` where it is missing and prove, by writing, that files can be made in it. Raises OSError.

    Also raises where a directory stands in the way of one of `names`, the files to come.
    """
    for target in (path / name for name in names):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path
