"""A training loop for any model and any objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Terms(Protocol):
    """What an objective returns: 0-d tensors, means over the batch, in nats. `fastvae.elbo` returns such."""

    @property
    def loss(self) -> Tensor: ...
    @property
    def log_likelihood(self) -> Tensor: ...
    @property
    def kl(self) -> Tensor: ...


Objective = Callable[[Any, Tensor], Terms]  # of a model and a batch


@dataclass
class History:
    """Means over each epoch's batches, in nats per image."""

    elbo: list[float] = field(default_factory=list)
    log_likelihood: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)

    def append(self, log_likelihood: float, kl: float) -> None:
        self.elbo.append(log_likelihood - kl)
        self.log_likelihood.append(log_likelihood)
        self.kl.append(kl)


def batches(images: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch in random order. An incomplete last batch is left out: every step has the same shapes."""
    for index in torch.randperm(len(images), generator=generator).split(batch_size):
        if len(index) == batch_size:
            yield images[index]


def adam(model: nn.Module, learning_rate: float = 1e-3) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def step(model: nn.Module, objective: Objective, optimizer: Optimizer, batch: Tensor) -> Terms:
    optimizer.zero_grad(set_to_none=True)
    terms = objective(model, batch)
    terms.loss.backward()
    optimizer.step()
    return terms


def train(
    model: nn.Module,
    objective: Objective,
    images: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    on_epoch: Callable[[History], object] = lambda history: None,
) -> History:
    """Train `model` in place with Adam on `images` [n, pixels]; `on_epoch` sees the history after each epoch.

    `seed` decides the order of the images and nothing else; noise obeys `torch.manual_seed`.
    """
    if not 0 < batch_size <= len(images):
        raise ValueError(f"batch_size is {batch_size}; wanted: 1 to the number of images, {len(images)}")
    optimizer, generator, history = adam(model, learning_rate), torch.Generator().manual_seed(seed), History()
    for _ in range(epochs):
        parts = []
        for batch in batches(images, batch_size, generator):
            terms = step(model, objective, optimizer, batch)
            parts.append(torch.stack([terms.log_likelihood.detach(), terms.kl.detach()]))
        history.append(*torch.stack(parts).mean(0).tolist())
        on_epoch(history)
    return history
