"""Seeds by name: what a run draws is a function of its seed and of the step, and of nothing that came before."""

from __future__ import annotations

import hashlib

import torch


def named_seed(seed: int, *name: str | int) -> int:
    """63 bits for one use of a run's seed, such as `named_seed(seed, "noise", step)`."""
    text = "/".join(map(str, (seed, *name)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(named_seed(seed, *name))
