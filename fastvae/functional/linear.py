"""p(x|z) of a decoder's last layer: log-likelihoods whose parameters are never whole in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shapes import accumulate_dtype, autocast_dtype
from ..formulas.scale import ScaleName
from ..ops import LinearLikelihood
from ..ops.linear import (
    LINEAR_BERNOULLI_LOG_PROB,
    LINEAR_CATEGORICAL_LOG_PROB,
    LINEAR_GAUSSIAN_LOG_PROB,
    LINEAR_MULTINOMIAL_LOG_PROB,
)
from ._arguments import (
    FLOATING,
    VALUES,
    Clamp,
    Reduction,
    as_operand,
    check_reduction,
    check_same_device,
    check_tensor,
    is_number,
    operands_shape,
    scale_arguments,
)
from ._arguments import element_weight as element_weights
from ._documents import documented
from ._one_node import one_node
from ._reductions import batch_factor, reduced
from ._weights import may_need_grad
from .categorical import over_rows, shape_of_counts, shape_of_indices
from .likelihood import value_scale

__all__ = [
    "linear_bernoulli_log_prob",
    "linear_categorical_log_prob",
    "linear_gaussian_log_prob",
    "linear_multinomial_log_prob",
]

Layer = tuple[Tensor, Tensor, Tensor | None]
OUTPUT = "input @ weight.T"  # what x is compared with, in errors


@one_node()
@documented
def linear_bernoulli_log_prob(
    x: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    x_scale: float | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """`bernoulli_log_prob(x, F.linear(input, weight, bias))` in nats, without logits that are whole in memory.

    Args:
        x: in [0, 1], which is not checked: floating, bool, or uint8 0..255; soft targets too.
        input: what the decoder's last layer is given, float32, bfloat16, float16 or float64.
        weight: of the layer, in input's dtype.
        bias: of the layer, in input's dtype, or None.

    Shape:
        input is [*batch, H], weight [D, H], bias [D]; x broadcasts to [*batch, D], and is not expanded: x [B, D] with
        input [K, B, H] gives [K, B].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        input, weight, bias, and a floating x; gradients are summed in float32 in a fixed order.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.1. In chunks, gradients with
        them: Hsu et al. 2024, "Liger Kernel: Efficient Triton kernels for LLM training".
    """
    return _log_prob(
        LINEAR_BERNOULLI_LOG_PROB, x, (input, weight, bias), {}, (), x_scale, reduction, mask, element_weight
    )


@one_node()
@documented
def linear_gaussian_log_prob(
    x: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    log_var: Tensor | float = 0.0,
    *,
    normalized: bool = True,
    x_scale: float | None = None,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """`gaussian_log_prob(x, F.linear(input, weight, bias), log_var)` in nats, without means that are whole in memory.

    Args:
        x: floating, bool, or uint8 0..255.
        input: what the decoder's last layer is given, float32, bfloat16, float16 or float64.
        weight: of the layer, in input's dtype.
        bias: of the layer, in input's dtype, or None.
        log_var: a tensor per element, or broadcast ([D], 0-d), or a float. Read as `scale_as` says.
        normalized: False leaves log(2 pi) / 2 out.

    Shape:
        input is [*batch, H], weight [D, H], bias [D]; x and log_var broadcast to [*batch, D], and are not expanded:
        x [B, D] with input [K, B, H] gives [K, B].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        input, weight, bias, log_var, and a floating x; gradients are summed in float32 in a fixed order.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.2. In chunks, gradients with
        them: Hsu et al. 2024, "Liger Kernel: Efficient Triton kernels for LLM training".
    """
    scale = scale_arguments(scale_as, scale_eps, clamp)
    if is_number(log_var):
        check_tensor("input", input, FLOATING)
        check_tensor("x", x, VALUES)
        log_var = as_operand(log_var, input, accumulate_dtype(x, input))
    layer, constants = (input, weight, bias), (normalized, *scale)
    return _log_prob(
        LINEAR_GAUSSIAN_LOG_PROB, x, layer, {"log_var": log_var}, constants, x_scale, reduction, mask, element_weight
    )


@one_node()
@documented
def linear_multinomial_log_prob(
    x: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    normalized: bool = True,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """`multinomial_log_prob(x, F.linear(input, weight, bias))` in nats, without logits that are whole in memory.

    Args:
        x: counts, not negative, which is not checked: floating, or any integer type; read in place.
        input: what the decoder's last layer is given, float32, bfloat16, float16 or float64.
        weight: of the layer, in input's dtype.
        bias: of the layer, in input's dtype, or None.
        normalized: False leaves the factorials out, which depend on x alone and take a logarithm or two for each count.
        mask: bool, broadcasts to the batch. Where it is False, value and gradients are exactly zero, also where the row
            has NaN.
        element_weight: floating, broadcasts to the batch: what `weight` is to `multinomial_log_prob`.

    Shape:
        input is [*batch, H], weight [classes, H], bias [classes]; x [..., classes] broadcasts to [*batch, classes],
        and is not expanded: x [B, classes] with input [K, B, H] gives [K, B].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        input, weight and bias; gradients are summed in float32 in a fixed order.

    Reference:
        Liang et al. 2018, "Variational autoencoders for collaborative filtering", eq. 2. In chunks, gradients with
        them: Hsu et al. 2024, "Liger Kernel: Efficient Triton kernels for LLM training".
    """
    layer = _checked(input, weight, bias)
    shape = shape_of_counts(x, _like_output(layer), OUTPUT)
    return _of_rows(LINEAR_MULTINOMIAL_LOG_PROB, x, layer, shape, reduction, mask, element_weight, normalized)


@one_node()
@documented
def linear_categorical_log_prob(
    x: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """`categorical_log_prob(x, F.linear(input, weight, bias))` in nats, without logits that are whole in memory.

    Of an x that is no class, value and gradients are NaN: it is not checked, since that would stall a GPU.

    Args:
        x: indices of classes, 0 to classes - 1, of any integer type.
        input: what the decoder's last layer is given, float32, bfloat16, float16 or float64.
        weight: of the layer, in input's dtype.
        bias: of the layer, in input's dtype, or None.
        mask: bool, broadcasts to the batch. Where it is False, value and gradients are exactly zero, also where x is no
            class or the row has NaN.
        element_weight: floating, broadcasts to the batch: what `weight` is to `categorical_log_prob`.

    Shape:
        input is [*batch, H], weight [classes, H], bias [classes]; x broadcasts to [*batch].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        input, weight and bias; gradients are summed in float32 in a fixed order.

    Reference:
        Bishop 2006, "Pattern recognition and machine learning", eq. 4.104 and 4.108. In chunks, gradients with them:
        Hsu et al. 2024, "Liger Kernel: Efficient Triton kernels for LLM training".
    """
    layer = _checked(input, weight, bias)
    x, shape = shape_of_indices(x, _like_output(layer), OUTPUT)
    return _of_rows(LINEAR_CATEGORICAL_LOG_PROB, x, layer, shape, reduction, mask, element_weight)


def _of_rows(
    likelihood: LinearLikelihood,
    x: Tensor,
    layer: Layer,
    shape: Sequence[int],
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
    *constants: bool,
) -> Tensor:
    """A likelihood of rows, whose keywords are over the batch."""

    def call(rows: Tensor | None, reduction: Reduction) -> Tensor:
        return _reduced(likelihood, (x, *layer, rows, *constants), shape, reduction)

    return over_rows(call, shape[:-1], x.device, reduction, mask, weight)


def _reduced(
    likelihood: LinearLikelihood, arguments: tuple[Any, ...], shape: Sequence[int], reduction: Reduction
) -> Tensor:
    if reduction == "none":
        return likelihood.apply(*arguments)
    log_prob: Tensor = likelihood.total(batch_factor(shape[:-1], reduction), *arguments)
    return log_prob


def _log_prob(
    likelihood: LinearLikelihood,
    x: Tensor,
    layer: Layer,
    further: dict[str, Tensor],
    constants: tuple[float | str, ...],
    x_scale: float | None,
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """`further` operands have the names that users know; the constants are those behind x_scale."""
    layer = _checked(*layer)
    names, others = ("x", OUTPUT, *further), further.values()
    shape = operands_shape(names, x, _like_output(layer), *others)
    constants = (value_scale(likelihood.likelihood, x, x_scale), *constants)
    check_reduction(reduction)
    weight = element_weights(mask, weight, shape, x.device)
    if may_need_grad(weight):
        operands = (x, F.linear(*layer), *others)
        return reduced(likelihood.likelihood, operands, weight, 1, constants, shape, reduction)
    return _reduced(likelihood, (x, *layer, *others, weight, *constants), shape, reduction)


def _checked(input: Tensor, weight: Tensor, bias: Tensor | None) -> Layer:
    """As F.linear takes them: under autocast in its dtype, but for float64."""
    given = {"input": input, "weight": weight} if bias is None else {"input": input, "weight": weight, "bias": bias}
    for name, tensor in given.items():
        check_tensor(name, tensor, FLOATING)
        check_same_device(name, tensor, "input", input.device)
    dtype = autocast_dtype(input.device)
    if dtype is not None:
        given = {name: t if t.dtype == torch.float64 else t.to(dtype) for name, t in given.items()}
    for name, tensor in given.items():
        if tensor.dtype != given["input"].dtype:
            raise TypeError(f"{name} is {tensor.dtype}, input {given['input'].dtype}: one dtype is wanted")
    if weight.dim() != 2 or input.dim() < 1 or input.shape[-1] != weight.shape[-1]:
        shapes = f"input {list(input.shape)}, weight {list(weight.shape)}"
        raise ValueError(f"weight must be [D, H] and input [..., H], got {shapes}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [D] = {list(weight.shape[:1])}, got {list(bias.shape)}")
    return given["input"], given["weight"], given.get("bias")


def _like_output(layer: Layer) -> Tensor:
    """Of the layer's shape and dtype, without memory."""
    input, weight, _ = layer
    return weight.new_empty(()).expand(*input.shape[:-1], len(weight))
