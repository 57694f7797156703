"""What a run is told, as flags have it and as its checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import TrainingError

# What a run may be resumed with anew; all else is the run itself.
FREE = {"epochs", "skip_bad_batches", "compile"}


@dataclass(frozen=True)
class Arguments:
    """One field for each flag of `fastvae train` that decides what is trained, by the flag's name."""

    data: str = ""
    model: str = "mlp"
    likelihood: str = "bernoulli"
    variance: str = "shared"
    latents: int = 20
    samples: int = 1
    objective: str = "elbo"
    estimator: str = "pathwise"
    beta: str = "1"
    capacity: str = ""
    free_bits: float = 0.0
    free_bits_over: str = "latent"
    binarize: bool = False
    epochs: int = 100
    batch_size: int = 128
    lr: float = 1e-3
    ema: float = 0.999
    clip: float | None = None
    seed: int = 0
    amp: str | None = None
    compile: bool = False
    fsdp: bool = False
    skip_bad_batches: bool = False

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


NAMES = tuple(f.name for f in fields(Arguments))


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the command line has."""
    return {name: flags[name] for name in NAMES if flags.get(name) is not None}


def resumed(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Arguments:
    """A run's arguments, with what it may be given anew. Raises TrainingError for another run's."""
    known = {name: value for name, value in saved.items() if name in NAMES}
    run = Arguments(**known)
    for name, value in now.items():
        if name not in FREE and value != getattr(run, name):
            flag = "--" + name.replace("_", "-")
            raise TrainingError(f"{flag} {value}: the run to resume has {getattr(run, name)}")
    return replace(run, **{name: value for name, value in now.items() if name in FREE})
