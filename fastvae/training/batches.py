"""Batches of a run: which images a step sees is a function of seed and step alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .data import Images
from .seeds import generator, named_seed

ON_DEVICE = 2**31  # tensors that take no more bytes are moved to a GPU once
AHEAD = 4  # batches that are prepared while a step runs


@dataclass(frozen=True)
class Part:
    """Which of `world` equal parts of a batch this process has."""

    rank: int = 0
    world: int = 1

    def of(self, size: int) -> slice:
        each = size // self.world
        return slice(self.rank * each, (self.rank + 1) * each)


WHOLE = Part()


class Batches:
    """Training batches [batch_size / world, *image_shape], epoch after epoch, each in a random order of its own.

    An incomplete last batch is left out: every step has the same shapes.

    Args:
        images: what is trained on.
        batch_size: of all processes together.
        seed: of the order, and of `binarize`.
        part: this process's; its rows of the batch that one process would have.
        binarize: draw each pixel anew at each step, 1 with probability x.
        device: where batches are wanted.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        *,
        part: Part = WHOLE,
        binarize: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < batch_size <= len(images):
            raise ValueError(f"batch_size is {batch_size}; wanted: 1 to the number of images, {len(images)}")
        if batch_size % part.world:
            raise ValueError(f"batch_size is {batch_size}; {part.world} processes cannot share it evenly")
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.part, self.binarize, self.device = part, binarize, torch.device(device)
        self.steps = len(images) // batch_size  # of an epoch
        self._order = lru_cache(2)(self._epoch)

    def index(self, step: int) -> Tensor:
        """Numbers of this process's images of a step, on the CPU."""
        epoch, batch = divmod(step, self.steps)
        rows = self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        return rows[self.part.of(self.batch_size)]

    def at(self, step: int) -> Tensor:
        """The batch of a step, on the CPU, or on the device where the images are."""
        index = self.index(step)
        x = self.images[index.to(self.images.device) if isinstance(self.images, Tensor) else index]
        if not self.binarize:
            return x
        return binarized(x, named_seed(self.seed, "binarize", step), self.part.of(self.batch_size), self.batch_size)

    def steps_from(self, first: int, last: int) -> Iterator[Tensor]:
        """The batches of the steps `first` to `last` - 1, on the device, prepared ahead where that takes time."""
        if isinstance(self.images, Tensor) and self.images.device == self.device:
            yield from map(self.at, range(first, last))
            return
        pinned = self.device.type == "cuda"
        for x in ahead((lambda step: self.at(step).pin_memory()) if pinned else self.at, range(first, last)):
            yield x.to(self.device, non_blocking=True)

    def _epoch(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.images), generator=generator(self.seed, "order", epoch))


def resident(images: Images, device: torch.device | str) -> Images:
    """Images in memory where the steps are, if they are few enough."""
    small = isinstance(images, Tensor) and images.numel() * images.element_size() <= ON_DEVICE
    return images.to(device) if small and isinstance(images, Tensor) else images


def binarized(x: Tensor, seed: int, rows: slice, count: int) -> Tensor:
    """bool: 1 with probability x, x / 255 of uint8. `x` are those rows of `count`, whose noise is drawn as one."""
    noise = torch.Generator(x.device).manual_seed(seed)
    shape = (count, *x.shape[1:])
    if x.dtype == torch.uint8:
        # 0 to 254: below x with probability x / 255 exactly.
        return torch.randint(255, shape, dtype=torch.uint8, device=x.device, generator=noise)[rows] < x
    return torch.rand(shape, device=x.device, generator=noise)[rows] < x


def ahead(prepare: Callable[[int], Tensor], steps: range) -> Iterator[Tensor]:
    """`map(prepare, steps)`, computed in a thread, some steps ahead. What it raises is raised here."""
    ready: queue.Queue[Any] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: Tensor | BaseException) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                pass

    def work() -> None:
        try:
            for step in steps:
                if stopped.is_set():
                    return
                put(prepare(step))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
