"""How long the demo takes and where it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    out: Path = Path("out/demo")
    seed: int = 0
    threads: int | None = None
    epochs: int = 400
    batch_size: int = 128
    learning_rate: float = 1e-3
    hidden: int = 400
    latent: int = 20
    # Further runs of the naive way, with other noise: their spread says what "within noise" means.
    noise_runs: int = 8
    test_samples: int = 256
    timing_rounds: int = 100
    compiled: bool = True


FULL = Settings()
QUICK = Settings(epochs=40, test_samples=64, timing_rounds=60)
