"""Test ELBO, in the course of a run and after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .batches import binarized
from .data import Images
from .parallel import ALONE, World
from .seeds import named_seed

BATCH = 256


class Bound(NamedTuple):
    """Means over images, in nats: elbo = log_likelihood - kl."""

    elbo: float
    log_likelihood: float
    kl: float


def test_batches(images: Images, seed: int, binarize: bool, device: torch.device | str) -> Iterator[tuple[int, Tensor]]:
    """All images in order, numbered batches of `BATCH`; binarised in the same way each time."""
    for number, index in enumerate(torch.arange(len(images)).split(BATCH)):
        x = images[index.to(images.device) if isinstance(images, Tensor) else index].to(device)
        if binarize:
            x = binarized(x, named_seed(seed, "binarize test", number), slice(None), len(x))
        yield number, x


@torch.no_grad()
def bound(
    model: nn.Module, images: Images, seed: int, *, binarize: bool = False, world: World = ALONE, samples: int = 1
) -> Bound:
    """The ELBO with beta 1 and no free bits, the mean of `samples` estimates, whose noise `seed` decides.

    Processes share the batches, and what they sum does not depend on how.
    """
    count = -(-len(images) // BATCH)
    sums = torch.zeros(count, 2, dtype=torch.float64, device=world.device)
    for number, x in test_batches(images, seed, binarize, world.device):
        if number % world.part.world == world.part.rank:
            for sample in range(samples):
                noise = torch.tensor(named_seed(seed, "noise test", number, sample))
                terms: Any = model(x, seed=noise)
                sums[number] += torch.stack([terms.log_likelihood, terms.kl]).double() * len(x)
    log_likelihood, kl = (world.sum(sums).sum(0) / (samples * len(images))).tolist()
    return Bound(log_likelihood - kl, log_likelihood, kl)
