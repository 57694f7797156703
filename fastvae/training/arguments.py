"""What a run is told, as flags have it and as its checkpoint keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..models import Settings
from ..models.head import is_wide
from ..models.likelihood import reading_of
from .errors import TrainingError

# What a run may be resumed with anew; all else is the run itself.
FREE = {"epochs", "skip_bad_batches", "compile"}


@dataclass(frozen=True)
class Arguments:
    """One field for each flag of `fastvae train` that decides what is trained, by the flag's name."""

    data: str
    model: str = "mlp"
    likelihood: str | None = None  # "gaussian" of a linear model, else "bernoulli"
    variance: str | None = None  # "shared" where the likelihood has one, else "fixed", which says nothing
    latents: int = 20
    hidden: tuple[int, ...] = (400,)
    width: int = 32
    depth: int = 1
    fused_head: bool | None = None  # None: where the decoder's last layer is wide
    samples: int = 1
    objective: str = "elbo"
    estimator: str = "pathwise"
    beta: str = "1"
    capacity: float | None = None
    capacity_over: str = "batch"
    free_bits: float = 0.0
    free_bits_over: str = "element"
    binarize: bool = False
    epochs: int = 100
    batch_size: int = 128
    lr: float = 1e-3
    ema: float = 0.999
    clip: float | None = None
    seed: int = 0
    amp: str | None = None
    compile: bool = False
    skip_bad_batches: bool = False

    def settings(self, image_shape: tuple[int, ...]) -> Settings:
        """Of the model. Raises TrainingError for what the model refuses."""
        likelihood = self.likelihood or ("gaussian" if self.model == "linear" else "bernoulli")
        about = {
            "likelihood": likelihood,
            "variance": self.variance or ("fixed" if reading_of(likelihood).scale is None else "shared"),
            "image_shape": image_shape,
            **{name: getattr(self, name) for name in ("model", "latents", "hidden", "width", "depth")},
        }
        try:
            settings = Settings.from_dict(about)
            return replace(settings, fused_head=self._fuses_head(settings))
        except (ValueError, TypeError) as error:
            raise TrainingError(str(error)) from error

    def _fuses_head(self, settings: Settings) -> bool:
        if self.fused_head is not None:
            return self.fused_head
        if settings.why_no_fused_head() is not None:
            return False
        rows, columns = self.batch_size * self.samples, math.prod(settings.image_shape)
        hidden = settings.latents if self.model == "linear" else settings.hidden[0]
        each_row = self.objective != "elbo" or self.estimator != "pathwise"
        return is_wide(rows, columns, hidden, each_row)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


NAMES = tuple(f.name for f in fields(Arguments))


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the command line has."""
    return {name: flags[name] for name in NAMES if flags.get(name) is not None}


def resumed(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Arguments:
    """A run's arguments, with what it may be given anew. Raises TrainingError for another run's."""
    run = from_data(saved)
    for name, value in now.items():
        if name not in FREE and value != getattr(run, name):
            flag = "--" + name.replace("_", "-")
            raise TrainingError(f"{flag} {value}: the run to resume has {getattr(run, name)}")
    return replace(run, **{name: value for name, value in now.items() if name in FREE})


def from_data(saved: Mapping[str, Any]) -> Arguments:
    """Of a checkpoint. Raises TypeError for what is none."""
    return Arguments(**{**saved, "hidden": tuple(saved["hidden"])})
