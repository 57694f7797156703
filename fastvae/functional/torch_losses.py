"""Losses of `torch.nn.functional` under its own signatures and with its values, by this package's operators."""

from __future__ import annotations

import math
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shapes import accumulate_dtype, promoted_dtype
from ..ops.counts import UNNORMALIZED_POISSON_LOG_PROB
from ..ops.likelihood import BERNOULLI_LOG_PROB, GAUSSIAN_LOG_PROB
from ._arguments import COUNTS, FLOATING, Reduction, broadcasts, element_weight, operands_shape, scale_arguments
from ._reductions import elements_loss

__all__ = ["binary_cross_entropy_with_logits", "gaussian_nll_loss", "poisson_nll_loss"]

_REDUCTIONS = get_args(Reduction)
_VAR = scale_arguments("var", 0.0, None)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    compat: Literal["probabilities"] | None = None,
) -> Tensor:
    """`torch.nn.functional.binary_cross_entropy_with_logits`: value and gradients, in nats, of one fused kernel.

    "sum" and "mean" make value and gradients in one pass. What no kernel takes is torch's own function: `pos_weight`,
    integer operands, nothing at all (whose mean is NaN there).

    Args:
        input: logits, float32, bfloat16, float16 or float64.
        target: in [0, 1], which is not checked; floating, of the shape of `input`.
        weight: multiplies each element's term; broadcasts.
        size_average: deprecated in torch, with `reduce`; both act as they do there.
        reduce: see `size_average`.
        reduction: "none", "sum", or "mean": over all elements, and not over the batch.
        pos_weight: of the terms of `target`.
        compat: "probabilities" computes what `binary_cross_entropy(sigmoid(input), target)` does, by torch's functions:
            the sigmoid rounds to 1 above 16.6 in float32, and logarithms below -100 count as -100.

    Shape:
        input, target: [*]. Returns [*], or 0-d with a reduction, in the dtype that torch gives.

    Raises:
        ValueError: `target` has another shape, the reduction or `compat` is unknown, `pos_weight` with "probabilities".
        TypeError: what is no tensor.

    Reference:
        `torch.nn.functional.binary_cross_entropy_with_logits`.
    """
    if compat is not None:
        if compat != "probabilities" or pos_weight is not None:
            raise ValueError(f'compat must be None or "probabilities", without pos_weight, got {compat!r}')
        return F.binary_cross_entropy(input.sigmoid(), target, weight, size_average, reduce, reduction)
    if size_average is not None or reduce is not None:
        reduction = torch.nn._reduction.legacy_get_string(size_average, reduce)
    served = {input.dtype, target.dtype} <= FLOATING and input.shape == target.shape and input.numel() > 0
    if pos_weight is not None or not served or reduction not in _REDUCTIONS:
        return F.binary_cross_entropy_with_logits(input, target, weight, None, None, reduction, pos_weight)
    shape, how = operands_shape(("target", "input"), target, input), cast(Reduction, reduction)
    weight = element_weight(None, weight, shape, input.device)
    loss = elements_loss(BERNOULLI_LOG_PROB, (target, input), weight, (1.0,), shape, how)
    return _in_torchs_dtype(loss, True, input, target)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """`torch.nn.functional.gaussian_nll_loss`: value and gradients, in nats, of one fused kernel.

    As there, a variance below `eps` is `eps`, and its gradient is the one at `eps`. A negative one is refused on a CPU
    in eager mode; elsewhere it counts as `eps`, since to ask would stall the device or break the graph.

    Args:
        input: the mean, float32, bfloat16, float16 or float64.
        target: floating, broadcasts with `input`.
        var: the variance, of the shape of `input`, or without its last dimension, or with a dimension of 1; or a float.
        full: with the constant log(2 pi) / 2.
        eps: the least variance.
        reduction: "none", "sum", or "mean": over all elements, and not over the batch.

    Shape:
        input, target: [*]. Returns [*], or 0-d with a reduction, in the dtype that torch gives.

    Raises:
        ValueError: `var` is negative or of a wrong shape, the reduction is unknown.
        TypeError: what is no tensor.

    Reference:
        `torch.nn.functional.gaussian_nll_loss`; Nix & Weigend 1994, "Estimating the mean and variance of the target
        probability distribution".
    """
    var = _variance(input, var)
    if reduction not in _REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    served = {input.dtype, target.dtype, var.dtype} <= FLOATING and broadcasts(input.shape, target.shape)
    if not served or input.numel() == 0:
        return F.gaussian_nll_loss(input, target, var, full, eps, reduction)
    operands = (target, input, _at_least(eps, var))
    shape, how = operands_shape(("target", "input", "var"), *operands), cast(Reduction, reduction)
    loss = elements_loss(GAUSSIAN_LOG_PROB, operands, None, (1.0, full, *_VAR), shape, how)
    # The functions that it is made of there are cast on GPUs and not on CPUs.
    return _in_torchs_dtype(loss, input.device.type != "cpu", input, target, var)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`torch.nn.functional.poisson_nll_loss`: value and gradients, in nats, of one fused kernel.

    Args:
        input: the rate's logarithm, or, unless `log_input`, the rate: float32, bfloat16, float16 or float64.
        target: counts, not negative, which is not checked: floating, or any integer type; broadcasts with `input`.
        log_input: whether `input` is a logarithm.
        full: with Stirling's approximation of log target! where that is above 1: t log t - t + log(2 pi t) / 2.
        size_average: deprecated in torch, with `reduce`; both act as they do there.
        eps: added to a rate whose logarithm is taken.
        reduce: see `size_average`.
        reduction: "none", "sum", or "mean": over all elements, and not over the batch.

    Shape:
        input, target: [*]. Returns [*], or 0-d with a reduction, in the dtype that torch gives.

    Raises:
        ValueError: the reduction is unknown.
        TypeError: what is no tensor.

    Reference:
        `torch.nn.functional.poisson_nll_loss`.
    """
    if size_average is not None or reduce is not None:
        reduction = torch.nn._reduction.legacy_get_string(size_average, reduce)
    served = input.dtype in FLOATING and target.dtype in COUNTS and broadcasts(input.shape, target.shape)
    if not served or reduction not in _REDUCTIONS or 0 in (input.numel(), target.numel()):
        return F.poisson_nll_loss(input, target, log_input, full, None, eps, None, reduction)
    rate = input if log_input else input.to(accumulate_dtype(input, target)) + eps
    shape, how = operands_shape(("x", "input"), target, rate, values=COUNTS), cast(Reduction, reduction)
    loss = elements_loss(UNNORMALIZED_POISSON_LOG_PROB, (target, rate), None, (log_input,), shape, how)
    if full:
        loss = loss + _reduced(_stirling(target.to(loss.dtype)).expand(shape), how)
    if not log_input:
        loss = loss - eps * (math.prod(shape) if reduction == "sum" else 1)
    return _in_torchs_dtype(loss, True, input, target)


def _stirling(target: Tensor) -> Tensor:
    """Of log target!, 0 up to 1."""
    several = target > 1
    t = torch.where(several, target, 1.0)
    return torch.where(several, t * t.log() - t + 0.5 * torch.log(2 * math.pi * t), 0.0)


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    return {"none": values, "sum": values.sum(), "mean": values.mean()}[reduction]


def _variance(input: Tensor, var: Tensor | float) -> Tensor:
    """Of a shape that broadcasts to that of `input`."""
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        return input.new_full((), var)
    if var.shape == input.shape:
        return var
    if input.shape[:-1] == var.shape:
        return var.unsqueeze(-1)
    if var.dim() == input.dim() and sum(v for n, v in zip(input.shape, var.shape, strict=True) if n != v) == 1:
        return var
    raise ValueError(f"var is of incorrect size, {list(var.shape)} with input {list(input.shape)}")


def _at_least(eps: float, var: Tensor) -> Tensor:
    """`eps` where the variance is less, with the gradient of the identity."""
    if var.device.type == "cpu" and _may_ask(var):
        if not bool((var < max(eps, 0.0)).any()):
            return var
        if bool((var < 0).any()):
            raise ValueError("var has negative entry/entries")
    return var + (var.detach().clamp(min=eps) - var.detach())


def _may_ask(tensor: Tensor) -> bool:
    return not (torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _in_torchs_dtype(result: Tensor, autocast: bool, *operands: Tensor) -> Tensor:
    """What the operands promote to, but for float32 under autocast where torch casts to that."""
    dtype = promoted_dtype(*operands)
    if result.dtype is dtype or (autocast and torch.is_autocast_enabled(result.device.type)):
        return result  # a cast that changes nothing takes as long as a small kernel
    return result.to(dtype)
