"""Convolutional networks: residual blocks with group normalisation, strides of 2 down to a few pixels and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from .settings import Settings

SMALLEST = 4  # pixels on a side to which no further stage halves
WIDEST = 8  # times the first stage's channels
GROUP = 8  # channels that are normalised together, or as many as there are


class Stages(NamedTuple):
    """Channels of each stage, and height and width at the last."""

    channels: tuple[int, ...]
    height: int
    width: int


def stages(settings: Settings) -> Stages:
    """As many as the sides can be halved: 256 pixels six times, 64 four times, 28 twice, 8 once."""
    _, height, width = settings.image_shape
    channels = [settings.width]
    while min(height, width) >= 2 * SMALLEST and height % 2 == width % 2 == 0:
        height, width = height // 2, width // 2
        channels.append(min(2 * channels[-1], WIDEST * settings.width))
    return Stages(tuple(channels), height, width)


def encoder(settings: Settings) -> nn.Module:
    """[batch, C, H, W] -> [batch, 2 L]."""
    channels, height, width = stages(settings)
    layers: list[nn.Module] = [_conv(settings.image_shape[0], channels[0])]
    for a, b in pairwise(channels):
        layers += [*_blocks(a, settings.depth), nn.Conv2d(a, b, 3, stride=2, padding=1)]
    last = channels[-1]
    layers += [*_blocks(last, settings.depth), *_activation(last), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last * height * width, 2 * settings.latents))


def decoder(settings: Settings, num_outputs: int) -> nn.Module:
    """[rows, L] -> [rows, num_outputs C, H, W]."""
    channels, height, width = stages(settings)
    first = channels[-1]
    layers = [nn.Linear(settings.latents, first * height * width), nn.Unflatten(1, (first, height, width))]
    for a, b in pairwise(reversed(channels)):
        layers += [*_blocks(a, settings.depth), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
    last = channels[0]
    layers += [*_blocks(last, settings.depth), *_activation(last)]
    return nn.Sequential(*layers, _conv(last, num_outputs * settings.image_shape[0]))


class Residual(nn.Module):
    """x + convolutions of x, each after normalisation and SiLU; nothing at first (Goyal et al. 2017, section 5.1).

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks". Wu & He 2018, "Group normalization".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = _conv(channels, channels)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(*_activation(channels), _conv(channels, channels), *_activation(channels), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _blocks(channels: int, depth: int) -> Iterator[nn.Module]:
    return (Residual(channels) for _ in range(depth))


def _activation(channels: int) -> tuple[nn.Module, nn.Module]:
    groups = channels // GROUP if channels % GROUP == 0 else 1
    return nn.GroupNorm(groups, channels), nn.SiLU()


def _conv(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, padding=1)
