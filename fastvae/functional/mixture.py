"""p(x|z) of mixtures whose indicator the channels of a pixel share: log-likelihoods."""

from __future__ import annotations

from torch import Tensor

from ..ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
from ._arguments import (
    FLOATING,
    MAX_NDIM,
    VALUES,
    Reduction,
    check_reduction,
    check_same_device,
    check_tensor,
    element_weight,
    integer,
)
from ._documents import documented
from ._one_node import one_node
from ._reductions import batch_factor, sum_all
from ._weights import may_need_grad
from .likelihood import value_scale

__all__ = ["discretized_logistic_mixture_log_prob"]


@one_node()
@documented
def discretized_logistic_mixture_log_prob(
    x: Tensor,
    mixture_logits: Tensor,
    mean: Tensor,
    log_scale: Tensor,
    *,
    bins: int = 256,
    x_scale: float | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = sum over pixels of log(sum over k of pi_k prod over channels of p(x_c | mean_kc, log_scale_kc)).

    In nats; pi = softmax(mixture_logits), and p is the mass that `discretized_logistic_log_prob` has on x's bin. The
    channels of a pixel share the component. PixelCNN++'s means of later channels depend on x's earlier ones: that is
    not done here, but such means may be passed.

    Args:
        x: k / (bins - 1) for k = 0 .. bins - 1, so in [0, 1], which is not checked: floating, bool, or uint8 0..255.
        mixture_logits: float32, bfloat16, float16 or float64; not necessarily normalized.
        mean: of each component and channel, in units of x.
        log_scale: likewise, the logarithm of the scale.
        bins: how many values x can have, 2 at least.
        mask: bool, broadcasts to [*samples, B, *pixels]. Where it is False, value and gradients are exactly zero, also
            where the pixel is NaN.
        weight: floating, broadcasts to [*samples, B, *pixels], whose terms it multiplies; zero is a mask's False.

    Shape:
        x [B, C, *pixels], mixture_logits [*samples, B, K, *pixels], mean and log_scale [*samples, B, K, C, *pixels].
        For images: [B, C, H, W], [B, K, H, W] and [B, K, C, H, W]. Nothing broadcasts but x over the samples.

    Returns:
        The log-likelihood, [*samples, B], or 0-d with a `reduction`; float32, float64 where an operand is.
        Differentiable in mixture_logits, mean, log_scale, and a floating x.

    Reference:
        Salimans et al. 2017, "PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other
        modifications", eq. 1 and 2.
    """
    batch, pixels = _checked(x, {"mixture_logits": mixture_logits, "mean": mean, "log_scale": log_scale})
    bins = integer("bins", bins)
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    check_reduction(reduction)
    operator = DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
    constants = value_scale(operator.component, x, x_scale), 0.5 / (bins - 1)
    weight = element_weight(mask, weight, (*batch, *pixels), x.device)
    each = None if weight is None else weight.expand(*batch, *pixels)
    arguments = (x, mixture_logits, mean, log_scale, each, *constants)
    factor = batch_factor(batch, reduction)
    if may_need_grad(each):
        values = operator.pair(*arguments)
        return values if reduction == "none" else factor * sum_all(values)
    log_prob: Tensor = operator.apply(*arguments) if reduction == "none" else operator.total(factor, *arguments)
    return log_prob


def _checked(x: Tensor, parameters: dict[str, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """[*samples, B] and [*pixels]."""
    check_tensor("x", x, VALUES)
    for name, parameter in parameters.items():
        check_tensor(name, parameter, FLOATING)
        check_same_device(name, parameter, "x", x.device)
    logits, *others = (tuple(parameter.shape) for parameter in parameters.values())
    if x.dim() < 2:
        raise ValueError(f"x must be [B, C, *pixels], got {list(x.shape)}")
    pixels = tuple(x.shape[2:])
    batch, components = logits[: len(logits) - 1 - len(pixels)], logits[len(logits) - 1 - len(pixels) :][:1]
    fit = batch[-1:] == x.shape[:1] and components > (0,) and logits == (*batch, *components, *pixels)
    if not fit or any(shape != (*batch, *components, x.shape[1], *pixels) for shape in others):
        given = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in {"x": x, **parameters}.items())
        raise ValueError(
            "wanted x [B, C, *pixels], mixture_logits [*samples, B, K, *pixels], mean and log_scale "
            f"[*samples, B, K, C, *pixels], K 1 at least; got {given}"
        )
    if len(others[0]) > MAX_NDIM:
        raise ValueError(f"at most {MAX_NDIM} dimensions are served, got mean {list(others[0])}")
    return batch, pixels
