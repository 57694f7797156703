"""What a model is made of, as plain data: a checkpoint keeps it as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ..functional._arguments import check_name
from .head import why_not
from .likelihood import VARIANCES, Variance, names, reading_of

Model = Literal["mlp", "conv", "linear"]


@dataclass(frozen=True)
class Settings:
    """Of a VAE that `build` makes.

    Args:
        model: "mlp"; "conv", residual blocks for sides of 8 to 256 pixels; or "linear", Gaussian: probabilistic PCA
            with a variance "shared", factor analysis with one "per-pixel".
        image_shape: (C, H, W).
        latents: L, the size of z.
        likelihood: NAME of a `fastvae.NAME_log_prob`.
        variance: of a Gaussian, see `fastvae.models.Observation`.
        log_var: of a variance that is "fixed", or where a learned one starts.
        hidden: "mlp": widths of the hidden layers of the encoder; the decoder's are the same, reversed.
        width: "conv": channels of the first stage; they double from stage to stage, up to eight times.
        depth: "conv": residual blocks in a stage.
        fused_head: of an "mlp" or a "linear" model, see `VAE`.

    Raises:
        ValueError: an unknown name, or a size that is not served.
        TypeError: a value of another type.
    """

    model: Model = "mlp"
    image_shape: tuple[int, int, int] = (1, 28, 28)
    latents: int = 20
    likelihood: str = "bernoulli"
    variance: Variance = "fixed"
    log_var: float = 0.0
    hidden: tuple[int, ...] = (400,)
    width: int = 32
    depth: int = 1
    fused_head: bool = False

    def __post_init__(self) -> None:
        check_name("model", self.model, get_args(Model))
        check_name("likelihood", self.likelihood, tuple(names()))
        check_name("variance", self.variance, VARIANCES)
        # From JSON they come as lists.
        object.__setattr__(self, "image_shape", _sizes("image_shape", self.image_shape))
        object.__setattr__(self, "hidden", _sizes("hidden", self.hidden))
        if len(self.image_shape) != 3:
            raise ValueError(f"image_shape must be (channels, height, width), got {self.image_shape}")
        for name in ("latents", "width", "depth"):
            _size(name, getattr(self, name))
        if isinstance(self.log_var, bool) or not isinstance(self.log_var, (int, float)):
            raise TypeError(f"log_var must be a number, got {type(self.log_var).__name__}")
        if not math.isfinite(self.log_var):
            raise ValueError(f"log_var must be finite, got {self.log_var}")
        if self.model == "linear" and self.likelihood != "gaussian":
            raise ValueError(f"model 'linear' is Gaussian: likelihood must be 'gaussian', got {self.likelihood!r}")
        if self.variance != "fixed" and reading_of(self.likelihood).scale is None:
            raise ValueError(f"variance {self.variance!r} is a Gaussian's, likelihood is {self.likelihood!r}")

        if self.fused_head and self.why_no_fused_head() is not None:
            raise ValueError(f"no fused_head: {self.why_no_fused_head()}")

    def why_no_fused_head(self) -> str | None:
        """None where there can be one."""
        per_pixel = self.variance == "per-pixel" and self.model != "linear"
        return why_not(self.model, self.likelihood, self.variance, 2 if per_pixel else 1)

    def as_dict(self) -> dict[str, Any]:
        """What `json.dumps` takes and `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Raises ValueError for a key that is none."""
        unknown = data.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"settings of a model have no {', '.join(sorted(map(repr, unknown)))}")
        return cls(**data)


def _sizes(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{name} must be a sequence of ints, got {type(values).__name__}")
    return tuple(_size(name, value) for value in values)


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value
