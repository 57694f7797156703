"""What a report says about where it comes from."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

import fastvae
from fastvae.measure.machine import installed_version

from .probes import Gauge


def accelerator(device: str) -> dict[str, str]:
    """The GPU and its software; nothing for the CPU."""
    if device != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    gauge = Gauge(device)
    facts = {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "L2": f"{properties.L2_cache_size / 2**20:.0f} MiB",
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "driver": gauge.driver,
        "power limit": None if gauge.power_limit is None else f"{gauge.power_limit:.0f} W",
        "cuda": torch.version.cuda or torch.version.hip,
        "triton": installed_version("triton"),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def commit() -> dict[str, str | bool]:
    """The commit of fastvae's own checkout, wherever the command was run; an installed fastvae has a version only.

    A copy without its history still has the hash of its kernels.
    """
    root = Path(fastvae.__file__).resolve().parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != root:
        return {"id": f"version {fastvae.__version__}", "dirty": False, "kernels": kernel_hash(root)}
    head = _git(root, "rev-parse", "HEAD") or "no commit"
    dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return {"id": head, "dirty": dirty, "kernels": kernel_hash(root)}


def kernel_hash(root: Path) -> str:
    """Of the sources of all kernels that stand under `root`: an installed fastvae has Triton's alone."""
    digest = hashlib.sha256()
    for path in _kernels(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _kernels(root: Path) -> Iterator[Path]:
    for folder, pattern in (("kernels", "*.[hc]*"), ("fastvae/backends/triton", "*.py")):
        yield from sorted(path for path in (root / folder).rglob(pattern) if path.is_file())


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
