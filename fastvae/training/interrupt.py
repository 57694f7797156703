"""SIGTERM and Ctrl-C as a wish that the loop fulfils between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """`signal` is the one that came. A second Ctrl-C does not wait."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextlib.contextmanager
def interruption() -> Iterator[Interruption]:
    wish = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield wish  # only the main thread is told of signals
        return
    before = {number: signal.signal(number, wish._came) for number in SIGNALS}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(Exception):  # noqa: N818
    """Training was left after `step` steps because of `signal`."""

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(signal, step)
        self.signal, self.step = signal, step
