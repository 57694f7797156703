"""Truth, and how far from it a result is. Textbook formulas in 160 digits: what cancels in float64 does not here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import torch

mp.mp.dps = 160

# --- formulas ---

LOG_VAR_OF = {
    "log_var": lambda s, eps: s,
    "log_std": lambda s, eps: 2 * s,
    "var": lambda s, eps: mp.log(s),
    "std": lambda s, eps: 2 * mp.log(s),
    "softplus": lambda s, eps: 2 * mp.log(mp.log(1 + mp.exp(s)) + eps),
}


def kl_normal(mean_q, scale_q, mean_p, scale_p, scale_as="log_var", scale_eps=0.0):
    q, p = (LOG_VAR_OF[scale_as](s, mp.mpf(scale_eps)) for s in (scale_q, scale_p))
    return ((mean_q - mean_p) ** 2 / mp.exp(p) + mp.exp(q) / mp.exp(p) - 1 - (q - p)) / 2


def kl_standard_normal(mean, scale, scale_as="log_var", scale_eps=0.0):
    t = LOG_VAR_OF[scale_as](scale, mp.mpf(scale_eps))
    return (mean**2 + mp.exp(t) - 1 - t) / 2


def bernoulli_log_prob(x, logits):
    return -(x * mp.log1p(mp.exp(-logits)) + (1 - x) * mp.log1p(mp.exp(logits)))


def gaussian_log_prob(x, mean, scale, scale_as="log_var", scale_eps=0.0, normalized=True):
    t = LOG_VAR_OF[scale_as](scale, mp.mpf(scale_eps))
    return -((x - mean) ** 2 / mp.exp(t) + t + (mp.log(2 * mp.pi) if normalized else 0)) / 2


def laplace_log_prob(x, mean, scale, log_scale=False):
    scale = mp.exp(scale) if log_scale else scale
    return -abs(x - mean) / scale - mp.log(2 * scale)


def continuous_bernoulli_log_prob(x, logits):
    return x * logits - (mp.log(mp.expm1(logits) / logits) if logits else 0)


def discretized_logistic_log_prob(x, mean, log_scale, bins=256):
    half, scale = mp.mpf(1) / (2 * (bins - 1)), mp.exp(log_scale)
    # The mass away from the mean of either end: the other is 1 but for what no number of digits holds.
    nearer, farther = ((abs(x - mean) + side * half) / scale for side in (-1, 1))
    if half <= x <= 1 - half:
        return mp.log(1 / (1 + mp.exp(nearer)) - 1 / (1 + mp.exp(farther)))
    return -mp.log1p(mp.exp(nearer if (x > half) == (x > mean) else -farther))


def poisson_log_prob(x, rate, log_rate=True):
    log_mean = rate if log_rate else mp.log(rate)
    return (x * log_mean if x else 0) - mp.exp(log_mean) - mp.loggamma(x + 1)


def unnormalized_poisson_log_prob(x, rate, log_rate=True):
    return (x * (rate if log_rate else mp.log(rate)) if x else 0) - (mp.exp(rate) if log_rate else rate)


def negative_binomial_log_prob(x, mean, inverse_dispersion, log_mean=False, odds=False, log_dispersion=False):
    t = mp.exp(inverse_dispersion) if log_dispersion else inverse_dispersion
    mean = (mp.exp(mean) if log_mean else mean) * (t if odds else 1)
    success = x * mp.log(mean / (t + mean)) if x else 0
    return mp.loggamma(x + t) - mp.loggamma(t) - mp.loggamma(x + 1) + t * mp.log(t / (t + mean)) + success


def zero_inflated_negative_binomial_log_prob(x, mean, inverse_dispersion, zero_logits, **read_as):
    counts = negative_binomial_log_prob(x, mean, inverse_dispersion, **read_as)
    excess, rest = 1 / (1 + mp.exp(-zero_logits)), 1 / (1 + mp.exp(zero_logits))
    return mp.log(rest) + counts if x else mp.log(excess + rest * mp.exp(counts))


class RowTruth:
    """A multinomial of one row, and what rounding each logit by a relative 1 moves it by."""

    def __init__(self, counts: Sequence[float], logits: Sequence[float], normalized: bool) -> None:
        x, a = [mp.mpf(count) for count in counts], [mp.mpf(logit) for logit in logits]
        self.x, total, exponentials = x, mp.fsum(x), [mp.exp(logit) for logit in a]
        whole = mp.fsum(exponentials)
        self.expected = [total * e / whole for e in exponentials]
        self.value = mp.fsum(count * logit for count, logit in zip(x, a, strict=True)) - total * mp.log(whole)
        if normalized:
            self.value += mp.loggamma(total + 1) - mp.fsum(mp.loggamma(count + 1) for count in x)
        slopes = [count - e for count, e in zip(x, self.expected, strict=True)]
        self.of_value = mp.fsum(abs(logit * slope) for logit, slope in zip(a, slopes, strict=True))
        others = mp.fsum(abs(logit) * e for logit, e in zip(a, exponentials, strict=True)) / whole
        self.of_slopes = [
            e * (abs(logit) * (1 - 2 * p / whole) + others)
            for e, logit, p in zip(self.expected, a, exponentials, strict=True)
        ]

    def gradients(self) -> tuple[list, list]:
        return [count - e for count, e in zip(self.x, self.expected, strict=True)], self.of_slopes


def std(scale, scale_as="log_var", scale_eps=0.0):
    return mp.exp(LOG_VAR_OF[scale_as](scale, mp.mpf(scale_eps)) / 2)


def partial(formula: Callable, *args, index: int):
    """Derivative in one argument by a central difference that 160 digits make exact to 80."""
    step = max(abs(args[index]), mp.mpf("1e-30")) * mp.mpf("1e-40")
    above, below = list(args), list(args)
    above[index] += step
    below[index] -= step
    return (formula(*above) - formula(*below)) / (2 * step)


# --- measures ---


@dataclass(frozen=True)
class Errors:
    """Per element: error in ulps of the truth, and in bits beyond half an ulp of the truth and of each input."""

    ulps: np.ndarray
    excess_bits: np.ndarray

    def worst(self) -> str:
        return f"{self.ulps.max():12.2f} ulp {self.excess_bits.max():6.2f} excess bits"


def errors(actual: torch.Tensor, formula: Callable, args: Sequence[torch.Tensor]) -> Errors:
    """Errors of `actual` as the elementwise `formula` of `args`, in the precision of actual's dtype.

    "Excess wrong bits" as in TensorFlow Probability's numeric_properties_test: the binary logarithm of the error over
    what rounding the exact result and perturbing each input by half an ulp would explain. Where the truth overflows,
    the result must too; what lies below the normal range may be flushed to 0.
    """
    info = torch.finfo(actual.dtype)
    ulps, bits = [], []
    for value, *inputs in zip(actual.tolist(), *(a.tolist() for a in args), strict=True):
        inputs = [mp.mpf(i) for i in inputs]
        truth = formula(*inputs)
        if abs(truth) > info.max:
            ulps.append(0.0 if value == math.copysign(math.inf, truth) or abs(value) >= info.max else math.inf)
            bits.append(ulps[-1])
            continue
        if not math.isfinite(value):
            ulps.append(math.inf)
            bits.append(math.inf)
            continue
        error = abs(mp.mpf(value) - truth)
        conditioning = sum(abs(i * partial(formula, *inputs, index=k)) for k, i in enumerate(inputs))
        explained = info.eps / 2 * (abs(truth) + conditioning) + info.tiny
        ulps.append(float(error / ulp(truth, info)))
        bits.append(max(0.0, float(mp.log(error / explained, 2))) if error > 0 else 0.0)
    return Errors(np.array(ulps), np.array(bits))


def excess_bits(actual: torch.Tensor, truths: Sequence, conditionings: Sequence) -> list[float]:
    """Bits beyond half an ulp of the truth and of each input, as `errors` has them."""
    info, bits = torch.finfo(actual.dtype), []
    for value, truth, conditioning in zip(actual.tolist(), truths, conditionings, strict=True):
        error = abs(mp.mpf(value) - truth) if math.isfinite(value) else mp.inf
        explained = info.eps / 2 * (abs(truth) + conditioning) + info.tiny
        bits.append(max(0.0, float(mp.log(error / explained, 2))) if error > 0 else 0.0)
    return bits


def ulp(value, info: torch.finfo):
    """Distance between neighbours of the dtype around `value`; below the normal range results may be flushed to 0."""
    if abs(value) < info.tiny:
        return mp.mpf(info.tiny)
    return mp.ldexp(info.eps, int(mp.floor(mp.log(abs(value), 2))))


def measure(
    call: Callable, formula: Callable, points: Sequence[np.ndarray], dtype: torch.dtype, constants: int = 0
) -> Iterator[tuple[str, Errors]]:
    """(name, errors) of the elementwise `call` and of its gradients in all but the last `constants` arguments."""
    args = [torch.tensor(p).to(dtype) for p in points]
    active = [a.requires_grad_() for a in args[: len(args) - constants]]
    value = call(*args)
    yield "value", errors(value.detach(), formula, args)
    for i, grad in enumerate(torch.autograd.grad(value.sum(), active)):
        yield f"d/d argument {i}", errors(grad, functools.partial(partial, formula, index=i), args)


# --- the table that `--accuracy-table` prints ---

_rows: dict[tuple[str, str, str], Errors] = {}


def record(quantity: str, dtype: torch.dtype, backend: str, measured: Errors) -> None:
    _rows[quantity, str(dtype).removeprefix("torch."), backend] = measured


def accuracy_table() -> list[str]:
    return [f"{q:44} {d:8} {b:10} {e.worst()}" for (q, d, b), e in sorted(_rows.items(), key=lambda row: row[0])]


# --- points ---


def log_uniform(generator: np.random.Generator, lo: float, hi: float, count: int) -> np.ndarray:
    return np.exp(generator.uniform(math.log(lo), math.log(hi), count))


def signed(generator: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return values * generator.choice((-1.0, 1.0), values.size)


def log_vars(generator: np.random.Generator, count: int) -> np.ndarray:
    """Half spread over [-80, 80], half close to 0, where the KL cancels."""
    wide, near = generator.uniform(-80, 80, count // 2), log_uniform(generator, 1e-8, 1, count - count // 2)
    return np.concatenate((wide, signed(generator, near)))


def scale_of(log_var: np.ndarray, scale_as: str) -> np.ndarray:
    """A log-variance in the units of `scale_as`."""
    std = np.exp(log_var / 2)
    return {
        "log_var": log_var,
        "log_std": log_var / 2,
        "var": np.exp(log_var),
        "std": std,
        "softplus": std + np.log(-np.expm1(-std)),
    }[scale_as]
