"""One model on several processes, as `torchrun` starts them: gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from .batches import WHOLE, Part


@dataclass(frozen=True)
class World:
    """This process among those that train the model."""

    device: torch.device
    part: Part = WHOLE

    @property
    def first(self) -> bool:
        """Who writes files and prints."""
        return self.part.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes, in place."""
        if self.part.world > 1:
            distributed.all_reduce(values)
            values /= self.part.world
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Over the processes, in place."""
        if self.part.world > 1:
            distributed.all_reduce(values)
        return values

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """What is called in the place of `model`: its gradients are those of the whole batch."""
        if self.part.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)


ALONE = World(torch.device("cpu"))


@contextmanager
def world(device: str) -> Iterator[World]:
    """Of the processes that `torchrun` has started; alone without it. `device` is "cpu", "cuda" or "auto"."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield World(torch.device(kind))
        return
    local = int(os.environ["LOCAL_RANK"])
    here = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(here)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield World(here, Part(distributed.get_rank(), distributed.get_world_size()))
    finally:
        distributed.destroy_process_group()
