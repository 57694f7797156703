"""The moving average of a model's weights, which is evaluated and sampled in their place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """Exponential: weights of 1 / (1 - decay) steps ago count 1/e as much.

    The first steps average over fewer, (1 + step) / (10 + step) in the place of a larger decay, as TensorFlow's
    `ExponentialMovingAverage` has it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_tensors(self.model), _tensors(model), share)
        for buffer, other in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(other)


def _tensors(model: nn.Module) -> list[Tensor]:
    return list(model.parameters())
