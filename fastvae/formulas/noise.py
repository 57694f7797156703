"""The noise stream that `fastvae.ops.noise` defines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011, section 5.2 and figure 3) of counter [..., 4] at key [2]."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        (hi0, lo0), (hi1, lo1) = _multiply(c0, _MULTIPLIERS[0]), _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return torch.stack((c0, c1, c2, c3), -1)


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """High and low word of a 64-bit product, in halves since int64 is signed."""
    upper, lower = word * (constant >> 16), word * (constant & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (lower + ((upper & 0xFFFF) << 16)) & _WORD


def normals(seed: Tensor, count: int) -> Tensor:
    """The first `count` normals of the stream of `seed`, float32."""
    block = torch.arange((count + 3) // 4, device=seed.device)
    zero = torch.zeros_like(block)
    seed = seed.reshape(())
    key = torch.stack((seed & _WORD, (seed >> 32) & _WORD))
    words = philox(torch.stack((block, block >> 32, zero, zero), -1), key)
    return _box_muller(words[..., ::2], words[..., 1::2]).reshape(-1)[:count]


def _box_muller(radius_word: Tensor, angle_word: Tensor) -> Tensor:
    """Box & Muller (1958): radius from one word, angle from the other; cosine and sine side by side."""
    uniform = radius_word.to(torch.float32) * 2.0**-32 + 2.0**-33
    radius = (-2 * uniform.double().log()).sqrt()
    angle = angle_word.double() * (2 * math.pi / 2**32)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).to(torch.float32)


def noise(seed: Tensor | None, eps: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """What was given, or the stream's."""
    if eps is not None:
        return eps.to(dtype)
    assert seed is not None  # the operator's contract: exactly one of the two
    return normals(seed, math.prod(shape)).reshape(shape).to(dtype)
