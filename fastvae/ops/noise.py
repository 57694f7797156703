"""The noise stream: what a seed means, the same on every device and backend.

Element i of z, counted in row-major order over z's shape whatever its memory layout, takes normal i % 4 of block
i // 4. A block is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") at
key = (low, high) words of the 64-bit seed, counter = (low, high words of the block's number, 0, 0). Its four words
w0..w3 give the normals (r cos t, r sin t, r' cos t', r' sin t') of Box & Muller (1958) with
r = sqrt(-2 log(w0 / 2^32 + 2^-33)), t = 2 pi w1 / 2^32, and r', t' alike from w2, w3. The uniform under the logarithm
is float32: w0 rounded, scaled, then the sum rounded. Normals are float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.compiler import is_compiling

from ..formulas import noise as formulas
from ._contract import Contract, library, parse
from ._dtensor import agreed
from ._stream import NORMALS
from ._traced import saved

__all__ = ["NORMALS", "PHILOX", "as_seed", "draw_seed", "on_device", "philox"]

# Words of the generator, for anyone who checks a stream: counter [..., 4] and key [2] hold 32-bit words as int64.
PHILOX = Contract(
    "philox",
    parse("Tensor counter, Tensor key"),
    "Tensor",
    fake=lambda counter, key: torch.empty_like(counter),
    formula=formulas.philox,
)


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return PHILOX.call(counter, key)


def draw_seed(like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """A seed from torch's own generator, so that `torch.manual_seed` holds and CUDA graphs redraw at each replay."""
    if generator is None and is_compiling():
        return _seed_node(like)
    seed = _drawn(like.device if generator is None else generator.device, generator)
    return agreed(on_device(seed, like.device), like)


def on_device(noise: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A seed, or noise, on the operands' device."""
    if noise.device == device:
        return noise
    # Out of pageable memory the host would wait for the GPU. A fake tensor cannot be pinned, nor need be.
    if noise.device.type == "cpu" and device.type == "cuda" and type(noise) is torch.Tensor and not is_compiling():
        return noise.pin_memory().to(device, non_blocking=True)
    return noise.to(device)


def _drawn(device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    # Named only where there is one: for the other overload the compiler has no code of its own.
    named: dict[str, Any] = {} if generator is None else {"generator": generator}
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device=device, **named)


def _drawn_and_saved(like: torch.Tensor) -> torch.Tensor:
    with saved():
        seed = _drawn(like.device)
    return agreed(seed, like)


# What torch.compile sees of it: drawn again for backward, it would be another.
library.define("seed(Tensor like) -> Tensor")
library.impl("seed", _drawn_and_saved, "CompositeImplicitAutograd")
_seed_node = torch.ops.fastvae.seed.default


def as_seed(seed: int | torch.Tensor, device: torch.device) -> torch.Tensor:
    """`seed` as an operator takes it; an int counts modulo 2^64."""
    if isinstance(seed, torch.Tensor):
        return on_device(seed, device)
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63
    return torch.full((), seed, dtype=torch.int64, device=device)


def normals_like(like: torch.Tensor) -> torch.Tensor:
    """The stream's, of a seed that torch's generator draws: float32, shaped like the tensor and on its device."""
    eps: torch.Tensor = NORMALS.call(draw_seed(like), like.numel())
    return torch.reshape(eps, like.shape)  # `view` would first try the shape as a dtype, in three times as long
