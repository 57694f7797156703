"""The operators in plain torch, on any device: the formulas as one reads them in a paper, in the form that holds.

Each function takes its operator's arguments in the schema's order and is differentiable in its turn. A `_backward`
returns gradients as `ops._operator.empty_grad` describes them; second derivatives are taken through it.
The names: `t` is a log-variance (or a difference of two), `u` a standardised residual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape, is_shared_by_event, sum_last

# --- how the second parameter of a Gaussian is read ---


class Parametrisation(NamedTuple):
    """log std and std as functions of the parameter and `scale_eps`, and their derivatives in the parameter."""

    log_std: Callable[[Tensor, float], Tensor]
    std: Callable[[Tensor, float], Tensor]
    d_log_std: Callable[[Tensor, float], Tensor]
    d_std: Callable[[Tensor, float], Tensor]
    logarithmic: bool


def softplus(s: Tensor) -> Tensor:
    return -logsigmoid(-s)


PARAMETRISATIONS = {
    "log_var": Parametrisation(
        lambda s, _: s / 2,
        lambda s, _: (s / 2).exp(),
        lambda s, _: torch.full_like(s, 0.5),
        lambda s, _: (s / 2).exp() / 2,
        True,
    ),
    "log_std": Parametrisation(
        lambda s, _: s * 1.0,
        lambda s, _: s.exp(),
        lambda s, _: torch.ones_like(s),
        lambda s, _: s.exp(),
        True,
    ),
    "var": Parametrisation(
        lambda s, _: s.log() / 2,
        lambda s, _: s.sqrt(),
        lambda s, _: 0.5 / s,
        lambda s, _: 0.5 / s.sqrt(),
        False,
    ),
    "std": Parametrisation(
        lambda s, _: s.log(),
        lambda s, _: s * 1.0,
        lambda s, _: 1 / s,
        lambda s, _: torch.ones_like(s),
        False,
    ),
    "softplus": Parametrisation(
        lambda s, eps: (softplus(s) + eps).log(),
        lambda s, eps: softplus(s) + eps,
        lambda s, eps: s.sigmoid() / (softplus(s) + eps),
        lambda s, _: s.sigmoid(),
        False,
    ),
}


class Scale(NamedTuple):
    """The second parameter, clamped; the derivatives are in the parameter, and zero outside the clamp."""

    log_std: Tensor
    std: Tensor
    d_log_std: Tensor
    d_std: Tensor
    logarithmic: bool


def read_scale(scale: Tensor, scale_as: str, scale_eps: float, clamp_lo: float, clamp_hi: float) -> Scale:
    read = PARAMETRISATIONS[scale_as]
    values = [f(scale, scale_eps) for f in read[:4]]
    if clamp_lo == -math.inf and clamp_hi == math.inf:
        return Scale(values[0], values[1], values[2], values[3], read.logarithmic)
    below, above = values[0] < clamp_lo / 2, values[0] > clamp_hi / 2
    # 1 is harmless in every parametrisation: what is discarded must not turn a zero gradient into NaN.
    inside = torch.where(below | above, 1.0, scale)
    at_lo = (clamp_lo / 2, exp_bound(clamp_lo / 2, scale.dtype), 0.0, 0.0)
    at_hi = (clamp_hi / 2, exp_bound(clamp_hi / 2, scale.dtype), 0.0, 0.0)
    values = [
        torch.where(below, lo, torch.where(above, hi, f(inside, scale_eps)))
        for f, lo, hi in zip(read[:4], at_lo, at_hi, strict=True)
    ]
    return Scale(values[0], values[1], values[2], values[3], read.logarithmic)


def exp_bound(bound: float, dtype: torch.dtype) -> float:
    return math.exp(bound) if bound < math.log(torch.finfo(dtype).max) else math.inf


# --- q(z|x) ---


def rsample(mean, scale, seed, eps, num_samples, *scale_spec):
    """z = mean + std * eps (Kingma & Welling 2014, eq. 9)."""
    shape = _sample_shape(broadcast_shape(mean, scale), num_samples)
    _, location, scale = _operands(None, mean, scale)
    z = location + read_scale(scale, *scale_spec).std * _noise(seed, eps, shape, scale.dtype)
    return _like_operand(z, mean) if z.shape == mean.shape else _contiguous(z.to(mean.dtype))


def rsample_backward(grad_z, mean, scale, seed, eps, num_samples, *rest):
    *scale_spec, needs = rest
    operands, shape = (mean, scale), broadcast_shape(mean, scale)
    _, mean, scale = _operands(None, *operands)
    grad = _zero_if_none(grad_z, scale, scale.dtype).expand(_sample_shape(shape, num_samples))
    grad_std = grad * _noise(seed, eps, grad.shape, scale.dtype)
    if num_samples > 0:
        grad, grad_std = grad.sum(0), grad_std.sum(0)
    return _grads(needs, operands, (grad, grad_std * read_scale(scale, *scale_spec).d_std), shape, 0)


def kl_standard_normal(mean, scale, weight, event_ndim, free_bits, *scale_spec):
    """KL(N(mean, std^2) || N(0, 1)) = (mean^2 + std^2 - 1 - log std^2) / 2 (Kingma & Welling 2014, appendix B)."""
    weight, mean, scale = _operands(weight, mean, scale)
    kl = _kl(mean, *_log_ratio(read_scale(scale, *scale_spec)))
    return sum_event(_weighted(weight, _floor(kl, free_bits)), event_ndim)


def kl_standard_normal_backward(grad_kl, mean, scale, weight, event_ndim, free_bits, *rest):
    *scale_spec, needs = rest
    shape = broadcast_shape(mean, scale, weight)
    grads = _kl_standard_normal_grads(grad_kl, mean, scale, weight, event_ndim, free_bits, scale_spec)
    return _grads(needs, (mean, scale), grads, shape, event_ndim)


def _kl_standard_normal_grads(grad_kl, mean, scale, weight, event_ndim, free_bits, scale_spec):
    weight, mean, scale = _operands(weight, mean, scale)
    s = read_scale(scale, *scale_spec)
    t, var_minus_1 = _log_ratio(s)
    grad = _weighted(weight, _zero_if_none(grad_kl, scale, scale.dtype, event_ndim))
    grad = _where_above(_kl(mean, t, var_minus_1), free_bits, grad)
    return grad * mean, grad * var_minus_1 * s.d_log_std


def kl_normal(mean_q, scale_q, mean_p, scale_p, weight, event_ndim, free_bits, *scale_spec):
    """KL(N(mean_q, std_q^2) || N(mean_p, std_p^2)) = (((mean_q - mean_p) / std_p)^2 + e^t - 1 - t) / 2,
    t = log(std_q^2 / std_p^2)."""
    weight, mean_q, scale_q, mean_p, scale_p = _operands(weight, mean_q, scale_q, mean_p, scale_p)
    q, p = read_scale(scale_q, *scale_spec), read_scale(scale_p, *scale_spec)
    kl = _kl((mean_q - mean_p) / p.std, *_log_ratio(q, p))
    return sum_event(_weighted(weight, _floor(kl, free_bits)), event_ndim)


def kl_normal_backward(grad_kl, mean_q, scale_q, mean_p, scale_p, weight, event_ndim, free_bits, *rest):
    *scale_spec, needs = rest
    operands, shape = (mean_q, scale_q, mean_p, scale_p), broadcast_shape(mean_q, scale_q, mean_p, scale_p, weight)
    weight, mean_q, scale_q, mean_p, scale_p = _operands(weight, *operands)
    q, p = read_scale(scale_q, *scale_spec), read_scale(scale_p, *scale_spec)
    u = (mean_q - mean_p) / p.std
    t, ratio_minus_1 = _log_ratio(q, p)
    grad = _weighted(weight, _zero_if_none(grad_kl, mean_q, mean_q.dtype, event_ndim))
    grad = _where_above(_kl(u, t, ratio_minus_1), free_bits, grad)
    grad_mean = grad * (u / p.std)
    grad_scale_q = grad * ratio_minus_1 * q.d_log_std
    grad_scale_p = grad * -(u * u + ratio_minus_1) * p.d_log_std
    return _grads(needs, operands, (grad_mean, grad_scale_q, -grad_mean, grad_scale_p), shape, event_ndim)


def rsample_kl(mean, scale, seed, eps, event_ndim, free_bits, *scale_spec):
    """`rsample` and `kl_standard_normal` of the same mean and scale."""
    z = rsample(mean, scale, seed, eps, 0, *scale_spec)
    return z, kl_standard_normal(mean, scale, None, event_ndim, free_bits, *scale_spec)


def rsample_kl_backward(grad_z, grad_kl, mean, scale, seed, eps, event_ndim, free_bits, *rest):
    *scale_spec, needs = rest
    operands, shape = (mean, scale), broadcast_shape(mean, scale)
    _, mean, scale = _operands(None, *operands)
    grad = _zero_if_none(grad_z, scale, scale.dtype).expand(shape)
    grad_scale = grad * _noise(seed, eps, shape, scale.dtype) * read_scale(scale, *scale_spec).d_std
    of_mean, of_scale = _kl_standard_normal_grads(grad_kl, mean, scale, None, event_ndim, free_bits, scale_spec)
    return _grads(needs, operands, (grad + of_mean, grad_scale + of_scale), shape, event_ndim)


def _kl(u: Tensor, t: Tensor, expm1: Tensor) -> Tensor:
    """(u^2 + e^t - 1 - t) / 2, the difference by series near t = 0, where it cancels."""
    return (u * u + torch.where(t.abs() < 0.5, _series(t.clamp(-0.5, 0.5)), expm1 - t)) / 2


def _series(t: Tensor) -> Tensor:
    """e^t - 1 - t = t^2 / 2! + t^3 / 3! + ...; to float64's last digit for abs(t) <= 1/2."""
    total = torch.ones_like(t)
    for n in range(16, 2, -1):
        total = 1 + t / n * total
    return t * t / 2 * total


def _log_ratio(q: Scale, p: Scale | None = None) -> tuple[Tensor, Tensor]:
    """t = log(std_q^2 / std_p^2) and e^t - 1; without p, std_p = 1."""
    if q.logarithmic:
        t = 2 * (q.log_std if p is None else q.log_std - p.log_std)
        return t, t.expm1()
    # Logarithms of nearly equal numbers cancel, their ratio does not.
    ratio = q.std if p is None else q.std / p.std
    t = 2 * (q.log_std if p is None else ratio.log())
    return t, torch.where(t.abs() < 0.5, t.clamp(-0.5, 0.5).expm1(), (ratio - 1) * (ratio + 1))


def _floor(kl: Tensor, free_bits: float) -> Tensor:
    return torch.where(kl <= free_bits, free_bits, kl) if free_bits > 0 else kl


def _where_above(kl: Tensor, free_bits: float, grad: Tensor) -> Tensor:
    return torch.where(kl <= free_bits, 0.0, grad) if free_bits > 0 else grad


# --- p(x|z) ---


def bernoulli_log_prob(x, logits, weight, event_ndim, x_scale):
    """x log p + (1 - x) log(1 - p) with p = sigmoid(logits)."""
    weight, x, logits = _operands(weight, x, logits)
    x = x * x_scale
    log_prob = x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits)
    return sum_event(_weighted(weight, log_prob), event_ndim)


def bernoulli_log_prob_backward(grad_log_prob, x, logits, weight, event_ndim, x_scale, needs):
    operands, shape = (x, logits), broadcast_shape(x, logits, weight)
    weight, x, logits = _operands(weight, *operands)
    x = x * x_scale
    grad = _weighted(weight, _zero_if_none(grad_log_prob, logits, logits.dtype, event_ndim))
    slope = torch.where(logits > 0, x - 1 + (-logits).sigmoid(), x - logits.sigmoid())
    return _grads(needs, operands, (grad * logits * x_scale, grad * slope), shape, event_ndim)


def gaussian_log_prob(x, mean, scale, weight, event_ndim, x_scale, normalized, *scale_spec):
    """-((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2), the last constant only if `normalized`."""
    weight, x, mean, scale = _operands(weight, x, mean, scale)
    s = read_scale(scale, *scale_spec)
    u = (x * x_scale - mean) / s.std
    log_prob = -(u * u / 2 + s.log_std + (math.log(2 * math.pi) / 2 if normalized else 0.0))
    return sum_event(_weighted(weight, log_prob), event_ndim)


def gaussian_log_prob_backward(grad_log_prob, x, mean, scale, weight, event_ndim, x_scale, normalized, *rest):
    *scale_spec, needs = rest
    operands, shape = (x, mean, scale), broadcast_shape(x, mean, scale, weight)
    weight, x, mean, scale = _operands(weight, *operands)
    s = read_scale(scale, *scale_spec)
    u = (x * x_scale - mean) / s.std
    grad = _weighted(weight, _zero_if_none(grad_log_prob, mean, mean.dtype, event_ndim))
    grad_mean = grad * (u / s.std)
    grads = (-grad_mean * x_scale, grad_mean, grad * ((u - 1) * (u + 1)) * s.d_log_std)
    return _grads(needs, operands, grads, shape, event_ndim)


# --- losses in one pass ---


def _one_pass(value: Callable, gradient: Callable) -> Callable:
    """share * the sum over everything, and the gradients of its negative."""

    def call(*args):
        *arguments, share, needs = args
        total = value(*arguments) * share
        grads = gradient(total.new_full((), -share), *arguments, needs)
        return total, *(grads if isinstance(grads, tuple) else (grads,))

    return call


bernoulli_log_prob_one_pass = _one_pass(bernoulli_log_prob, bernoulli_log_prob_backward)
gaussian_log_prob_one_pass = _one_pass(gaussian_log_prob, gaussian_log_prob_backward)


def rescale_(grad: Tensor, upstream: Tensor) -> None:
    """In place: the gradients of a negative total become those of a total with gradient `upstream`."""
    grad.mul_(-upstream)


# --- both halves ---


def elbo(log_px, kl, beta, beta_value, event_ndim, mean):
    """loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4), the ELBO, and its two parts."""
    shape, dtype = broadcast_shape(log_px, kl, beta), accumulate_dtype(log_px, kl, beta)
    log_px, kl = log_px.to(dtype).expand(shape), kl.to(dtype).expand(shape)
    share = _share(shape, event_ndim, mean)
    loss = _beta(beta, beta_value, dtype) * kl - log_px
    return tuple(sum_event(part, event_ndim) * share for part in (loss, log_px - kl, log_px, kl))


def elbo_backward(grad_loss, grad_elbo, grad_log_likelihood, grad_kl, log_px, kl, beta, beta_value, event_ndim, *rest):
    mean, needs = rest
    operands, shape, dtype = (log_px, kl, beta), broadcast_shape(log_px, kl, beta), accumulate_dtype(log_px, kl, beta)
    share = _share(shape, event_ndim, mean)
    grad_loss, grad_elbo, grad_log_likelihood, grad_kl = (
        _zero_if_none(grad, kl, dtype, event_ndim) * share
        for grad in (grad_loss, grad_elbo, grad_log_likelihood, grad_kl)
    )
    grads = (
        grad_elbo + grad_log_likelihood - grad_loss,
        _beta(beta, beta_value, dtype) * grad_loss - grad_elbo + grad_kl,
        beta_value * kl.to(dtype) * grad_loss,
    )
    return _grads(needs, operands, grads, shape, event_ndim)


def _beta(beta: Tensor | None, beta_value: float, dtype: torch.dtype) -> Tensor | float:
    return beta_value if beta is None else beta_value * beta.to(dtype)


def _share(shape: torch.Size, event_ndim: int, mean: bool) -> float:
    """What each element adds to a mean; the mean of nothing is 0."""
    return 1 / max(math.prod(shape[len(shape) - event_ndim :]), 1) if mean else 1.0


# --- the noise stream, as ops/noise.py defines it ---

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011, section 5.2 and figure 3) of counter [..., 4] at key [2]."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        (hi0, lo0), (hi1, lo1) = _multiply(c0, _MULTIPLIERS[0]), _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return torch.stack((c0, c1, c2, c3), -1)


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """High and low word of a 64-bit product, in halves since int64 is signed."""
    upper, lower = word * (constant >> 16), word * (constant & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (lower + ((upper & 0xFFFF) << 16)) & _WORD


def normals(seed: Tensor, count: int) -> Tensor:
    """The first `count` normals of the stream of `seed`, float32."""
    block = torch.arange((count + 3) // 4, device=seed.device)
    zero = torch.zeros_like(block)
    seed = seed.reshape(())
    key = torch.stack((seed & _WORD, (seed >> 32) & _WORD))
    words = philox(torch.stack((block, block >> 32, zero, zero), -1), key)
    return _box_muller(words[..., ::2], words[..., 1::2]).reshape(-1)[:count]


def _box_muller(radius_word: Tensor, angle_word: Tensor) -> Tensor:
    """Box & Muller (1958): radius from one word, angle from the other; cosine and sine side by side."""
    uniform = radius_word.to(torch.float32) * 2.0**-32 + 2.0**-33
    radius = (-2 * uniform.double().log()).sqrt()
    angle = angle_word.double() * (2 * math.pi / 2**32)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).to(torch.float32)


def _noise(seed: Tensor | None, eps: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    if eps is not None:
        return eps.to(dtype)
    assert seed is not None  # the operator's contract: exactly one of the two
    return normals(seed, math.prod(shape)).reshape(shape).to(dtype)


def _sample_shape(shape: torch.Size, num_samples: int) -> torch.Size:
    return torch.Size((num_samples, *shape)) if num_samples > 0 else shape


# --- elements, sums, layouts ---


def _operands(weight: Tensor | None, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    """Everything in the dtype of arithmetic; what weighs nothing is replaced by 1, lest 0 * NaN come through.

    Contiguous, since torch computes exp by other instructions, to other bits, where a tensor is strided.
    """
    dtype = accumulate_dtype(weight, *tensors)
    tensors = tuple(t.to(dtype).contiguous() for t in tensors)
    if weight is None:
        return None, *tensors
    return weight.to(dtype), *(torch.where(weight == 0, 1.0, t) for t in tensors)


def _weighted(weight: Tensor | None, term: Tensor) -> Tensor:
    return term if weight is None else torch.where(weight == 0, 0.0, weight * term)


def sum_event(term: Tensor, event_ndim: int) -> Tensor:
    """Sum over the last `event_ndim` dimensions."""
    if event_ndim == 0:
        return _contiguous(term)
    return sum_last(term.flatten(-event_ndim))


def _zero_if_none(grad: Tensor | None, like: Tensor, dtype: torch.dtype, event_ndim: int = 0) -> Tensor:
    """An output's gradient, with the summed dimensions put back as ones."""
    if grad is None:
        return like.new_zeros((), dtype=dtype)
    return grad.to(dtype).reshape([*grad.shape, *[1] * event_ndim])


def _grads(needs, operands, grads, shape, event_ndim) -> tuple[Tensor, ...]:
    return tuple(
        _like_empty_grad(grad.expand(shape), operand, event_ndim) if need else operands[0].new_empty(0)
        for need, operand, grad in zip(needs, operands, grads, strict=True)
    )


def _like_empty_grad(grad: Tensor, operand: Tensor, event_ndim: int) -> Tensor:
    if grad.shape == operand.shape:
        return _like_operand(grad, operand)
    if is_shared_by_event(operand, event_ndim):
        grad = sum_event(grad, event_ndim).reshape([*batch_shape(grad.shape, event_ndim), *[1] * event_ndim])
    return _contiguous(grad)


def _like_operand(value: Tensor, operand: Tensor) -> Tensor:
    """In the dtype and memory layout of `torch.empty_like(operand)`, and never its memory."""
    value = value.to(operand.dtype)
    if operand.is_contiguous():
        return _contiguous(value)
    strides = torch.empty_like(operand).stride()
    order = sorted(range(value.dim()), key=lambda dim: -strides[dim])
    inverse = sorted(range(value.dim()), key=lambda dim: order[dim])
    return _contiguous(value.permute(order)).permute(inverse)


def _contiguous(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)
