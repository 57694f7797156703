"""The functions that users call: arguments are checked, then one operator is called.

Shapes broadcast as in torch. Densities and divergences are in nats and summed over the last `event_ndim` dimensions:
None sums all but the first, 0 sums nothing. Inputs may be float32, bfloat16, float16 or float64, mixed; arithmetic and
reductions are float32, float64 where any operand is float64. Gradients have their input's dtype.

Keywords that several functions share:

scale_as: what the second parameter holds: "log_var", "log_std", "var", "std" or "softplus"
    (std = softplus(s) + scale_eps).
clamp: (lo, hi) on the log-variance; outside it the gradient is zero.
mask, weight: broadcast to the elements, whose terms they multiply; where one is zero (False), value and gradients are
    exactly zero, also where the element is NaN.
seed, generator, eps: where the noise comes from, at most one of them. `seed` (int, or int64 tensor with one element) is
    the key of the stream that `fastvae.ops.noise` defines; `generator` draws the seed; `eps` is the noise itself,
    shaped like z. Given none, `torch.randint` draws the seed on mean's device.
reduction: "none" gives one value for each element of the batch; "sum" and "mean" give one for all of it, and gradients
    made in the same pass where they are not float16: what a loss needs that holds its negative. Under torch.compile and
    torch.func the passes are theirs to fuse.
free_bits: floor for the KL in nats, at the level `free_bits_over` (Kingma et al. 2016, "Improving variational inference
    with inverse autoregressive flow", eq. 15): each "element"; each "latent" averaged over the batch; each "sample";
    the "batch" mean. Where the floor holds, the gradient is exactly zero. Levels above the element count only what
    mask and weight leave in.

Raised before any work: TypeError for what is no tensor or of a wrong dtype, ValueError for shapes that do not
broadcast, operands on different devices, and values out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import _arguments as arguments
from ._shapes import accumulate_dtype, batch_shape, broadcast_shape, sum_last
from .backends import reference
from .ops import likelihood, noise, posterior

Clamp = tuple[float, float]

_TWO_POSTERIORS = ("mean_q", "log_var_q", "mean_p", "log_var_p")

__all__ = [
    "bernoulli_log_prob",
    "gaussian_log_prob",
    "kl_normal",
    "kl_standard_normal",
    "rsample",
    "rsample_kl",
]


def rsample(
    mean: Tensor,
    log_var: Tensor,
    *,
    scale_as: str = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    num_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    eps: Tensor | None = None,
) -> Tensor:
    """z = mean + std * eps, eps ~ N(0, I) (Kingma & Welling 2014, eq. 9); in mean's dtype.

    Shaped like mean (broadcast with log_var), or [K, *mean.shape] with `num_samples` = K >= 1. The same seed gives the
    same noise on every device and in every dtype and layout.
    """
    shape = arguments.operands_shape(("mean", "log_var"), mean, log_var)
    scale = arguments.scale_spec(scale_as, scale_eps, clamp)
    count = arguments.check_num_samples(num_samples)
    arguments.check_noise(seed, generator, eps, shape, count, mean.device)
    return _rsample(mean, log_var, _seed(mean, seed, generator, eps), eps, count, scale)


def kl_standard_normal(
    mean: Tensor,
    log_var: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: str = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    free_bits: float = 0.0,
    free_bits_over: str = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """KL(N(mean, std^2) || N(0, I)) in nats (Kingma & Welling 2014, appendix B); [batch]."""
    shape = arguments.operands_shape(("mean", "log_var"), mean, log_var)
    event_ndim = arguments.event_dims(event_ndim, shape)
    scale = arguments.scale_spec(scale_as, scale_eps, clamp)
    arguments.check_free_bits(free_bits, free_bits_over)
    weight = arguments.element_weight(mask, weight, shape, mean.device)
    operands = (mean, log_var)
    return _kl(posterior.kl_standard_normal, operands, weight, event_ndim, free_bits, free_bits_over, scale)


def kl_normal(
    mean_q: Tensor,
    log_var_q: Tensor,
    mean_p: Tensor,
    log_var_p: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: str = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    free_bits: float = 0.0,
    free_bits_over: str = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """KL(N(mean_q, std_q^2) || N(mean_p, std_p^2)) in nats; [batch]. `scale_as` and `clamp` hold for both scales."""
    shape = arguments.operands_shape(_TWO_POSTERIORS, mean_q, log_var_q, mean_p, log_var_p)
    event_ndim = arguments.event_dims(event_ndim, shape)
    scale = arguments.scale_spec(scale_as, scale_eps, clamp)
    arguments.check_free_bits(free_bits, free_bits_over)
    weight = arguments.element_weight(mask, weight, shape, mean_q.device)
    operands = (mean_q, log_var_q, mean_p, log_var_p)
    return _kl(posterior.kl_normal, operands, weight, event_ndim, free_bits, free_bits_over, scale)


def rsample_kl(
    mean: Tensor,
    log_var: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: str = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    num_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    eps: Tensor | None = None,
    free_bits: float = 0.0,
    free_bits_over: str = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(z, kl) of `rsample` and `kl_standard_normal`, the inputs being read once.

    z is shaped like mean, or [K, *mean.shape]; kl is [batch]. With `num_samples`, `mask` or `weight` the two are
    computed one after the other. mask and weight apply to kl only.
    """
    shape = arguments.operands_shape(("mean", "log_var"), mean, log_var)
    event_ndim = arguments.event_dims(event_ndim, shape)
    scale = arguments.scale_spec(scale_as, scale_eps, clamp)
    count = arguments.check_num_samples(num_samples)
    arguments.check_free_bits(free_bits, free_bits_over)
    arguments.check_noise(seed, generator, eps, shape, count, mean.device)
    weight = arguments.element_weight(mask, weight, shape, mean.device)
    seed = _seed(mean, seed, generator, eps)
    if count or weight is not None or _may_need_grad(eps):
        z = _rsample(mean, log_var, seed, eps, count, scale)
        operands = (mean, log_var)
        return z, _kl(posterior.kl_standard_normal, operands, weight, event_ndim, free_bits, free_bits_over, scale)
    if free_bits == 0 or free_bits_over == "element":
        return posterior.rsample_kl(mean, log_var, seed, eps, event_ndim, free_bits, *scale)
    summed = 0 if free_bits_over == "latent" else event_ndim
    z, kl = posterior.rsample_kl(mean, log_var, seed, eps, summed, 0.0, *scale)
    return z, _floor(kl, None, shape, event_ndim, free_bits, free_bits_over)


def bernoulli_log_prob(
    x: Tensor,
    logits: Tensor,
    *,
    x_scale: float | None = None,
    event_ndim: int | None = None,
    reduction: str = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = x log p + (1 - x) log(1 - p), p = sigmoid(logits), in nats; [batch].

    x in [0, 1] (not checked) is a float tensor, bool, or uint8 0..255; it is read as x * x_scale, by default 1/255 for
    uint8 and 1 otherwise, and gets a gradient where it requires one.
    """
    shape = arguments.operands_shape(("x", "logits"), x, logits)
    event_ndim = arguments.event_dims(event_ndim, shape)
    arguments.check_reduction(reduction)
    constants = (_x_scale(x, x_scale),)
    weight = arguments.element_weight(mask, weight, shape, logits.device)
    operators = (likelihood.bernoulli_log_prob, likelihood.total_bernoulli_log_prob)
    return _reduced_log_prob(*operators, (x, logits), weight, event_ndim, constants, reduction)


def gaussian_log_prob(
    x: Tensor,
    mean: Tensor,
    log_var: Tensor | float | str,
    *,
    normalized: bool = True,
    x_scale: float | None = None,
    scale_as: str = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    event_ndim: int | None = None,
    reduction: str = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = -((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2) in nats; [batch].

    x is read as in `bernoulli_log_prob`. log_var is per element, or broadcast ([D], [1, C, 1, 1], 0-d), or a float;
    "optimal" is the maximum-likelihood variance of the batch, gradient included (Rybkin et al. 2021, "Simple and
    effective VAE training with calibrated decoders", eq. 6). `normalized=False` leaves log(2 pi) / 2 out.
    """
    arguments.check_reduction(reduction)
    if isinstance(log_var, str):
        log_prob = _optimal_log_prob(x, mean, log_var, normalized, x_scale, scale_as, clamp, event_ndim, mask, weight)
        return log_prob if reduction == "none" else _share(log_prob.shape, reduction) * _sum(log_prob)
    if isinstance(log_var, (int, float)):
        shape = arguments.operands_shape(("x", "mean"), x, mean)
    else:
        shape = arguments.operands_shape(("x", "mean", "log_var"), x, mean, log_var)
    event_ndim = arguments.event_dims(event_ndim, shape)
    constants = (_x_scale(x, x_scale), normalized, *arguments.scale_spec(scale_as, scale_eps, clamp))
    weight = arguments.element_weight(mask, weight, shape, mean.device)
    if isinstance(log_var, (int, float)):
        log_var = mean.new_full((), log_var, dtype=accumulate_dtype(x, mean))
    operators = (likelihood.gaussian_log_prob, likelihood.total_gaussian_log_prob)
    return _reduced_log_prob(*operators, (x, mean, log_var), weight, event_ndim, constants, reduction)


def _optimal_log_prob(x, mean, log_var, normalized, x_scale, scale_as, clamp, event_ndim, mask, weight):
    """log N(x; mean, var) with var = sum(weight (x - mean)^2) / sum(weight) over the whole batch."""
    if log_var != "optimal":
        raise ValueError(f"log_var must be a tensor, a float or 'optimal', got {log_var!r}")
    shape = arguments.operands_shape(("x", "mean"), x, mean)
    event_ndim = arguments.event_dims(event_ndim, shape)
    _, _, lo, hi = arguments.scale_spec(scale_as, 0.0, clamp)
    constants = (_x_scale(x, x_scale), False, *arguments.scale_spec("log_var", 0.0, None))
    weight = arguments.element_weight(mask, weight, shape, mean.device)
    unit = mean.new_zeros((), dtype=accumulate_dtype(x, mean))
    half_squares = _log_prob(likelihood.gaussian_log_prob, (x, mean, unit), weight, event_ndim, constants)
    if half_squares.numel() == 0 or 0 in shape:
        return half_squares
    ones = half_squares.new_ones(()) if weight is None else weight.to(half_squares.dtype)
    counts = reference.sum_event(ones.expand(shape), event_ndim)
    total = reference.sum_event(counts, counts.dim())
    nothing = total == 0
    var = -2 * reference.sum_event(half_squares, half_squares.dim()) / torch.where(nothing, 1.0, total)
    var = torch.where(nothing, 1.0, var)
    var = var.clamp(*(reference.exp_bound(bound, var.dtype) for bound in (lo, hi)))
    return half_squares / var - counts / 2 * (var.log() + (math.log(2 * math.pi) if normalized else 0.0))


def _rsample(mean, log_var, seed, eps, count, scale) -> Tensor:
    if _may_need_grad(eps):
        return reference.rsample(mean, log_var, seed, eps, count, *scale)
    return posterior.rsample(mean, log_var, seed, eps, count, *scale)


def _seed(mean, seed, generator, eps) -> Tensor | None:
    """The stream's key as a tensor; None where the noise is given."""
    if eps is not None:
        return None
    return noise.draw_seed(mean.device, generator) if seed is None else noise.as_seed(seed, mean.device)


def _x_scale(x: Tensor, x_scale: float | None) -> float:
    if x_scale is None:
        return 1 / 255 if x.dtype == torch.uint8 else 1.0
    arguments.check_number("x_scale", x_scale)
    return x_scale


def _kl(operator: Callable, operands, weight, event_ndim, free_bits, over, scale) -> Tensor:
    if free_bits == 0 and weight is None:
        return operator(*operands, None, event_ndim, 0.0, *scale)
    if over == "element" or free_bits == 0:
        return _summed(lambda w, ndim: operator(*operands, w, ndim, free_bits, *scale), weight, event_ndim)
    shape = broadcast_shape(*operands)
    if over == "latent":
        kept = None if weight is None else weight != 0
        kl = operator(*operands, kept, 0, 0.0, *scale)
    else:
        kl = _summed(lambda w, ndim: operator(*operands, w, ndim, 0.0, *scale), weight, event_ndim)
    return _floor(kl, weight, shape, event_ndim, free_bits, over)


def _log_prob(operator: Callable, operands, weight, event_ndim, constants) -> Tensor:
    if weight is None:
        return operator(*operands, None, event_ndim, *constants)
    return _summed(lambda w, ndim: operator(*operands, w, ndim, *constants), weight, event_ndim)


def _reduced_log_prob(operator, total, operands, weight, event_ndim, constants, reduction) -> Tensor:
    if reduction == "none":
        return _log_prob(operator, operands, weight, event_ndim, constants)
    shape = broadcast_shape(*operands)
    share = _share(batch_shape(shape, event_ndim), reduction)
    if _may_need_grad(weight):
        return share * _log_prob(operator, operands, weight, len(shape), constants)
    return total(share, *operands, weight, len(shape), *constants)


def _share(batch: Sequence[int], reduction: str) -> float:
    """What each element of the batch adds to its reduction; the mean of nothing is 0."""
    return 1 / max(math.prod(batch), 1) if reduction == "mean" else 1.0


def _sum(log_prob: Tensor) -> Tensor:
    return reference.sum_event(log_prob, log_prob.dim())


def _summed(call: Callable[[Tensor | None, int], Tensor], weight: Tensor | None, event_ndim: int) -> Tensor:
    """`call(weight, event_ndim)`; operators give weight no gradient, so one that needs it is multiplied here."""
    if weight is None or not _may_need_grad(weight):
        return call(weight, event_ndim)
    return reference.sum_event(call(weight != 0, 0) * weight, event_ndim)


def _may_need_grad(tensor: Tensor | None) -> bool:
    """Whether a gradient may be asked for; inside torch.func's transforms `requires_grad` does not tell."""
    if tensor is None or not tensor.is_floating_point():
        return False
    return tensor.requires_grad or torch._C._are_functorch_transforms_active()


def _floor(kl, weight, shape, event_ndim, free_bits, over) -> Tensor:
    """Free bits above the element; kl is elementwise and unweighted for "latent", else [batch] and weighted."""
    if over == "latent":
        return _floor_latents(kl, weight, event_ndim, free_bits)
    floor, present = free_bits, None
    if weight is not None:
        present = (weight != 0).expand(shape)
        present = present.flatten(-event_ndim).any(-1) if event_ndim else present
        floor = torch.where(present, free_bits, 0.0).to(kl.dtype)
    level = kl if over == "sample" else _batch_mean(kl, present, 0)
    return torch.where(level <= free_bits, floor, kl)


def _floor_latents(kl, weight, event_ndim, free_bits) -> Tensor:
    level = _batch_mean(kl, weight, event_ndim)
    kl = torch.where(level <= free_bits, free_bits, kl)
    if weight is not None:
        kl = torch.where(weight == 0, 0.0, weight * kl)
    return reference.sum_event(kl, event_ndim)


def _batch_mean(kl: Tensor, weight: Tensor | None, event_ndim: int) -> Tensor:
    """Mean over all but the last `event_ndim` dimensions, weighted if `weight` is given."""
    batch = batch_shape(kl.shape, event_ndim)
    rows = (math.prod(batch), *kl.shape[len(batch) :])
    weight = kl.new_ones(()) if weight is None else weight.detach().to(kl.dtype)
    weight = weight.expand(kl.shape)
    total, count = (sum_last(t.reshape(rows).movedim(0, -1)) for t in (weight * kl, weight))
    return total / count
