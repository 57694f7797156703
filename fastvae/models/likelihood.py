"""p(x|z) inside a model: which operator, where its parameters come from, and the mean that pictures show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from .. import functional
from ..formulas.pixels import continuous_bernoulli_log_prob_gradient
from ..functional._arguments import Reduction, check_name
from ..ops import OPERATORS, Likelihood
from . import head

Variance = Literal["fixed", "shared", "per-pixel", "optimal"]
VARIANCES: tuple[Variance, ...] = get_args(Variance)

SUFFIX = "_log_prob"
CLAMP = (-10.0, 10.0)  # on a log-variance that the decoder gives: of a constant pixel it would fall without end
MOMENTUM = 0.1  # of the running optimal variance, as batch normalisation has it


class Reading(NamedTuple):
    """How a likelihood reads what a decoder gives: any real numbers."""

    mean: Callable[..., Tensor] = lambda first, *others: first  # of p(x|z), from its parameters
    keywords: Mapping[str, Any] = {}
    function: str | None = None  # the public one, where it has another name
    scale: str | None = None  # the last operand, a log-variance, about which a variance mode decides


_IN_LOGARITHMS = {"mean_as": "log_mean", "dispersion_as": "log_inverse_dispersion"}

# By name; what is not here takes the decoder's outputs as they are, and its first parameter is its mean.
READINGS = {
    "bernoulli": Reading(torch.sigmoid),
    "gaussian": Reading(scale="scale"),
    "laplace": Reading(keywords={"scale_as": "log_scale"}),
    "continuous_bernoulli": Reading(lambda logits: -continuous_bernoulli_log_prob_gradient(1, 0, logits, x_scale=1)[1]),
    "poisson": Reading(torch.exp),
    "negative_binomial": Reading(lambda log_mean, _: log_mean.exp(), _IN_LOGARITHMS),
    "zero_inflated_negative_binomial": Reading(
        lambda log_mean, _, zero_logits: log_mean.exp() * torch.sigmoid(-zero_logits),
        _IN_LOGARITHMS,
        "negative_binomial",
    ),
}


def reading_of(name: str) -> Reading:
    return READINGS.get(name, Reading())


# What the encoder reads of x; as it is where nothing is said.
INPUTS: dict[constraints.Constraint, Callable[[Tensor], Tensor]] = {constraints.nonnegative_integer: torch.log1p}


def names() -> list[str]:
    """The likelihoods that there are."""
    declared = [name.removesuffix(SUFFIX) for name, operator in OPERATORS.items() if isinstance(operator, Likelihood)]
    return [name for name in declared if hasattr(functional, _function(name))]


def _function(name: str) -> str:
    """The public one."""
    return (reading_of(name).function or name) + SUFFIX


class Observation(nn.Module):
    """log p(x|z) of images, given what a decoder makes of z.

    Args:
        likelihood: NAME of a public `fastvae.NAME_log_prob`: "bernoulli", "gaussian", or any other that there is.
        image_shape: (C, H, W), the event.
        variance: of a Gaussian. "fixed": `log_var`, a constant; "shared": one learned number, [1], which `log_var`
            starts; "per-pixel": the decoder's second output; "optimal": the maximum-likelihood variance of the batch in
            training, gradient included, and its running estimate in evaluation.
        log_var: nats of log std^2.
        constant: a variance "per-pixel" does not depend on z: it is a learned tensor [C, H, W], as in factor analysis.

    Attributes:
        num_outputs: how many numbers a decoder gives for each pixel.

    Reference:
        Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders".
    """

    log_var: Tensor | None

    def __init__(
        self,
        likelihood: str = "bernoulli",
        image_shape: Sequence[int] = (1, 28, 28),
        *,
        variance: Variance = "fixed",
        log_var: float = 0.0,
        constant: bool = False,
    ) -> None:
        super().__init__()
        check_name("likelihood", likelihood, names())
        check_name("variance", variance, VARIANCES)
        operator = OPERATORS[f"{likelihood}{SUFFIX}"]
        assert isinstance(operator, Likelihood)  # as `names` has it
        self.image_shape = torch.Size(image_shape)
        self.likelihood, self.variance = likelihood, variance
        self._x_scale = operator.x_scale  # of pixels, not of counts
        self._input = INPUTS.get(operator.support)
        self._log_prob = getattr(functional, _function(likelihood))
        self._reading = reading_of(likelihood)
        self._keywords = dict(self._reading.keywords)
        parameters = [a.name for a in operator.arguments if a.type == "Tensor" and a.name in operator.operands[1:]]
        self.num_outputs = len(parameters)
        self.register_buffer("log_var", None)
        if self._reading.scale in parameters:
            self._set_variance(log_var, constant)

    def _set_variance(self, log_var: float, constant: bool) -> None:
        if self.variance == "per-pixel" and not constant:
            self._keywords["clamp"] = CLAMP
            return
        self.num_outputs -= 1
        # FSDP shards no parameter of no dimension.
        shape = {"shared": (1,), "per-pixel": self.image_shape}.get(self.variance, ())
        value = torch.full(shape, float(log_var))
        if self.variance in ("shared", "per-pixel"):
            del self.log_var
            self.log_var = nn.Parameter(value)
        else:
            self.log_var = value

    def parameters_of(self, outputs: Sequence[Tensor]) -> tuple[Any, ...]:
        """What `log_prob` takes: a decoder's outputs, and the variance where it is none of them."""
        if self.log_var is None:
            return tuple(outputs)
        return *outputs, "optimal" if self.variance == "optimal" and self.training else self.log_var

    def log_prob(self, x: Tensor, parameters: Sequence[Any], reduction: Reduction = "none") -> Tensor:
        """log p(x|z), [*samples, batch] or 0-d, of x [batch, C, H, W] and parameters [*samples, batch, C, H, W]."""
        keywords = {**self._keywords, "event_ndim": len(self.image_shape), "reduction": reduction}
        log_px: Tensor = self._log_prob(x, *parameters, **keywords)
        if self.variance == "optimal" and self.log_var is not None and self.training:
            self._remember(log_px.detach())
        return log_px

    def linear_log_prob(self, x: Tensor, input: Tensor, layer: nn.Linear, reduction: Reduction = "none") -> Tensor:
        """`log_prob` of a decoder that ends in `layer`, of what this is given, [*samples, batch, H]; see `head`."""
        function = getattr(functional, head.function_name(self.likelihood))
        variance = (
            {} if self.log_var is None else {"log_var": self.log_var.flatten() if self.log_var.dim() else self.log_var}
        )
        keywords = {**self._keywords, **variance, "reduction": reduction}
        log_px: Tensor = function(x.flatten(1), input, layer.weight, bias=layer.bias, **keywords)
        return log_px

    @torch.no_grad()
    def _remember(self, log_px: Tensor) -> None:
        """The optimal variance, of the likelihood that it gave: log p = -D (log(2 pi var) + 1) / 2 on the mean."""
        assert self.log_var is not None
        log_var = -2 * log_px.mean() / math.prod(self.image_shape) - 1 - math.log(2 * math.pi)
        self.log_var.lerp_(log_var.to(self.log_var.dtype), MOMENTUM)

    def mean(self, parameters: Sequence[Any]) -> Tensor:
        """The mean of p(x|z); of pixels in [0, 1]."""
        mean = self._reading.mean(*parameters)
        return mean.clamp(0, 1) if self._x_scale else mean

    def encoder_input(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """x in floating point, scaled as the likelihood reads it."""
        scale = self._x_scale.get(x.dtype, 1.0)
        x = x.to(dtype)
        x = x if scale == 1.0 else x * scale
        return x if self._input is None else self._input(x)

    def extra_repr(self) -> str:
        return f"{self.likelihood}, {tuple(self.image_shape)}, variance={self.variance!r}"
