"""At the edge of a parameter's domain value and gradients are those of the limit; outside it they are NaN.

The limits are written down as mathematics has them, not as any code gives them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INF, NAN = math.inf, math.nan
ANY = None  # no limit: nothing is asked


class Limit(NamedTuple):
    """Of a function of elements: its arguments, its value there, and its gradient in each argument."""

    arguments: tuple[float, ...]
    value: float
    gradients: tuple[float | None, ...]


class Reading(NamedTuple):
    """A way to read the scale: the parameter where std is 0, infinite, and 2, and the derivatives there."""

    zero: float
    infinite: float
    two: float
    d_log_std: tuple[float, float, float]  # d log std / d parameter at the three
    d_std: tuple[float, float, float]
    d_kl_at_infinity: float  # d (std^2 / 2 - log std) / d parameter = (std^2 - 1) d log std


SIGMOID = 1 - math.exp(-2)  # at softplus(s) = 2
READINGS = {
    "log_var": Reading(-INF, INF, math.log(4), (1 / 2, 1 / 2, 1 / 2), (0, INF, 1), INF),
    "log_std": Reading(-INF, INF, math.log(2), (1, 1, 1), (0, INF, 2), INF),
    # log std = log(v) / 2, (v - 1) / (2 v) -> 1 / 2
    "var": Reading(0, INF, 4, (INF, 0, 1 / 8), (INF, 0, 1 / 4), 1 / 2),
    "std": Reading(0, INF, 2, (INF, 0, 1 / 2), (1, 1, 1), INF),
    # e^s for s to -inf, s for s to inf
    "softplus": Reading(-INF, INF, math.log(math.expm1(2)), (1, 0, SIGMOID / 2), (0, 1, SIGMOID), INF),
}

# x l - log(1 + e^l); its slope in l is x - sigmoid(l). In x it has none where an infinite logit agrees.
BERNOULLI = [
    Limit((1, INF), 0, (ANY, 0)),
    Limit((0, -INF), 0, (ANY, 0)),
    Limit((0, INF), -INF, (INF, -1)),
    Limit((1, -INF), -INF, (-INF, 1)),
    Limit((0.5, INF), -INF, (INF, -0.5)),
    Limit((0.5, -INF), -INF, (-INF, 0.5)),
    Limit((1, 0), -math.log(2), (0, 0.5)),
    Limit((0, NAN), NAN, (NAN, NAN)),
    Limit((1, NAN), NAN, (NAN, NAN)),
]


def gaussian(r: Reading) -> list[Limit]:
    """-(u^2 / 2 + log std + log(2 pi) / 2) with u = (x - mean) / std; its slope in log std is u^2 - 1."""
    at_zero, at_infinity, at_two = r.d_log_std
    return [
        Limit((0.5, 0.5, r.zero), INF, (0, 0, -at_zero)),
        Limit((1, 0.5, r.zero), -INF, (-INF, INF, INF)),
        Limit((0, 0.5, r.zero), -INF, (INF, -INF, INF)),
        Limit((1, 0.5, r.infinite), -INF, (0, 0, -at_infinity)),
        Limit((0.5, 0.5, r.infinite), -INF, (0, 0, -at_infinity)),
        Limit((0.5, INF, r.two), -INF, (INF, -INF, INF)),
        Limit((INF, 0.5, r.two), -INF, (-INF, INF, INF)),
        Limit((0.5, 0.5, r.two), -math.log(2 * math.sqrt(2 * math.pi)), (0, 0, -at_two)),
        Limit((0.5, 0.5, NAN), NAN, (NAN, NAN, NAN)),
    ]


def kl_standard_normal(r: Reading) -> list[Limit]:
    """(mean^2 + std^2 - 1) / 2 - log std; its slope in log std is std^2 - 1."""
    at_zero, _, at_two = r.d_log_std
    return [
        Limit((0.5, r.zero), INF, (0.5, -at_zero)),
        Limit((0, r.zero), INF, (0, -at_zero)),
        Limit((0.5, r.infinite), INF, (0.5, r.d_kl_at_infinity)),
        Limit((INF, r.two), INF, (INF, 3 * at_two)),
        Limit((-INF, r.two), INF, (-INF, 3 * at_two)),
        Limit((0.5, NAN), NAN, (ANY, NAN)),
    ]


def kl_normal(r: Reading) -> list[Limit]:
    """(u^2 + q^2 / p^2 - 1) / 2 - log(q / p) with u = (mean_q - mean_p) / p; its slopes in log q and log p are
    q^2 / p^2 - 1 and -(u^2 + q^2 / p^2 - 1)."""
    at_zero, at_infinity, at_two = r.d_log_std
    return [
        # a prior that says nothing
        Limit((1, r.two, 0, r.infinite), INF, (0, -at_two, 0, at_infinity)),
        # a prior that is sure
        Limit((1, r.two, 0, r.zero), INF, (INF, INF, -INF, -INF)),
        Limit((0, r.two, 0, r.zero), INF, (0, INF, 0, -INF)),
        # u = 1/2
        Limit((1, r.zero, 0, r.two), INF, (0.25, -at_zero, -0.25, 0.75 * at_two)),
        Limit((1, r.infinite, 0, r.two), INF, (0.25, r.d_kl_at_infinity / 4, -0.25, -INF)),
        Limit((INF, r.two, 0, r.two), INF, (INF, 0, -INF, -INF)),
        Limit((0, r.two, INF, r.two), INF, (-INF, 0, INF, -INF)),
        Limit((1, r.two, 0, NAN), NAN, (NAN, NAN, NAN, NAN)),
    ]


def rsample(r: Reading) -> list[Limit]:
    """mean + std eps"""
    at_zero, at_infinity, at_two = r.d_std
    return [
        Limit((0.5, r.zero, 2), 0.5, (1, 2 * at_zero)),
        Limit((0.5, r.zero, -1), 0.5, (1, -1 * at_zero)),
        Limit((0.5, r.zero, 0), 0.5, (1, 0)),
        Limit((0.5, r.infinite, 2), INF, (1, 2 * at_infinity)),
        Limit((0.5, r.infinite, -1), -INF, (1, -1 * at_infinity)),
        Limit((0.5, r.infinite, 0), 0.5, (1, 0)),
        Limit((INF, r.two, 1), INF, (1, at_two)),
        Limit((0.5, NAN, 0), NAN, (1, ANY)),
    ]


def outside(count: int, scales: tuple[int, ...]) -> list[Limit]:
    """A variance or a standard deviation below 0."""
    means = [0.5] * count
    return [
        Limit(tuple(-1.0 if i == at else 1.0 if i in scales else m for i, m in enumerate(means)), NAN, gradients)
        for at in scales
        for gradients in [tuple(NAN if i == at else ANY for i in range(count))]
    ]


class Function(NamedTuple):
    call: Callable[..., Any]  # elementwise
    limits: Callable[[Reading], list[Limit]]
    scales: tuple[int, ...]  # which arguments are


GAUSSIAN = {
    "gaussian_log_prob": Function(fastvae.gaussian_log_prob, gaussian, (2,)),
    "kl_standard_normal": Function(fastvae.kl_standard_normal, kl_standard_normal, (1,)),
    "kl_normal": Function(fastvae.kl_normal, kl_normal, (1, 3)),
}


def tensors(limits: list[Limit], dtype: torch.dtype) -> list[torch.Tensor]:
    return [
        torch.tensor(list(column), dtype=dtype) for column in zip(*(limit.arguments for limit in limits), strict=True)
    ]


def check(
    limits: list[Limit], dtype: torch.dtype, value: torch.Tensor, gradients: tuple[torch.Tensor, ...], scale: float = 0
) -> None:
    """Exact but for the roundings of the arguments and of a few operations; those of a value that of its `scale`."""
    tolerance = 8 * torch.finfo(dtype).eps

    def same(actual: float, wanted: float | None) -> bool:
        if wanted is None:
            return True
        near = pytest.approx(wanted, rel=tolerance, abs=tolerance * scale)
        return math.isnan(actual) if math.isnan(wanted) else actual == near

    results = (value, *gradients)
    wrong = [
        (limit.arguments, f"d/d {k - 1}" if k else "value", actual, wanted)
        for i, limit in enumerate(limits)
        for k, wanted in enumerate((limit.value, *limit.gradients[: len(gradients)]))
        if not same(actual := results[k][i].item(), wanted)
    ]
    assert not wrong, "\n".join(f"{arguments} {what}: {a}, wanted {w}" for arguments, what, a, w in wrong)


def check_alone_and_in_rows(call: Callable[..., torch.Tensor], limits: list[Limit], dtype: torch.dtype) -> None:
    """Each limit as an element, and in a row of 784 whose other elements are ordinary."""
    operands = [t.requires_grad_() for t in tensors(limits, dtype)]
    value = call(*operands, event_ndim=0)
    check(limits, dtype, value, torch.autograd.grad(value.sum(), operands))
    if dtype == torch.float32:
        rows = [torch.full((len(limits), 784), 0.5) for _ in operands]
        for row, operand in zip(rows, operands, strict=True):
            row[:, 5] = operand.detach()
        rows = [row.requires_grad_() for row in rows]
        value = call(*rows, event_ndim=1)
        others = 783 * call(*[torch.full((1,), 0.5) for _ in operands], event_ndim=0).item()
        gradients = torch.autograd.grad(value.sum(), rows)
        check(limits, dtype, value - others, tuple(g[:, 5] for g in gradients), scale=abs(others))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli(dtype):
    check_alone_and_in_rows(fastvae.bernoulli_log_prob, BERNOULLI, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "scale_as"), [*itertools.product(GAUSSIAN, READINGS)])
def test_densities_and_divergences(name, scale_as, dtype):
    function = GAUSSIAN[name]
    limits = function.limits(READINGS[scale_as])
    if scale_as in ("var", "std"):
        limits = limits + outside(len(limits[0].arguments), function.scales)
    check_alone_and_in_rows(functools.partial(function.call, scale_as=scale_as), limits, dtype)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale_as", READINGS)
def test_samples(scale_as, dtype, joined):
    """Alone, and beside a KL that nobody uses: its infinite slope leaves the sample's gradient alone."""
    limits = rsample(READINGS[scale_as])
    if scale_as in ("var", "std"):
        limits = limits + outside(3, (1,))
    mean, scale, eps = tensors(limits, dtype)
    mean.requires_grad_()
    scale.requires_grad_()
    if joined:
        z, _ = fastvae.rsample_kl(mean, scale, eps=eps, scale_as=scale_as)
    else:
        z = fastvae.rsample(mean, scale, eps=eps, scale_as=scale_as)
    check(limits, dtype, z, torch.autograd.grad(z.sum(), (mean, scale)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale_as", READINGS)
def test_of_a_sample_and_its_kl_the_kl_is_the_larger(scale_as, dtype):
    r = READINGS[scale_as]
    for scale, d_kl in ((r.zero, -r.d_log_std[0]), (r.infinite, r.d_kl_at_infinity)):
        for noise in (2.0, -2.0):
            mean, scale_ = (torch.tensor([v], dtype=dtype).requires_grad_() for v in (0.5, scale))
            z, kl = fastvae.rsample_kl(mean, scale_, eps=torch.tensor([noise]), scale_as=scale_as)
            assert kl.item() == INF
            grads = torch.autograd.grad(z.sum() + kl.sum(), (mean, scale_))
            d_z = r.d_std[0 if scale == r.zero else 1] * noise
            assert grads[0].item() == 1.5
            assert grads[1].item() == (d_kl if math.isinf(d_kl) else d_kl + d_z)


def subnormal(dtype: torch.dtype) -> float:
    return 5e-324 if dtype == torch.float64 else 1e-40


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_noise_is_the_slope_in_a_std_however_small(dtype, joined):
    std = torch.tensor([0.0, 1.0, 2.0, 60.0]).to(dtype) * torch.tensor(subnormal(dtype), dtype=dtype)
    std = torch.cat((std, torch.tensor([5e-39, 1e-30]).to(dtype))).requires_grad_()
    mean, eps = torch.zeros(6, dtype=dtype), torch.tensor([2.0, -1.0, 0.5, 4.0, -2.0, 1.0]).to(dtype)
    for keywords, noise in (({}, eps), ({"num_samples": 3}, torch.stack((eps, eps, -3 * eps)))):
        if joined and keywords:
            continue
        if joined:
            z, _ = fastvae.rsample_kl(mean, std, eps=noise, scale_as="std")
        else:
            z = fastvae.rsample(mean, std, eps=noise, scale_as="std", **keywords)
        (grad,) = torch.autograd.grad(z.sum(), std)
        assert torch.equal(grad, eps if not keywords else -eps)


# The interpreter misreads bfloat16 below the normal range.
@pytest.mark.interpreted(where=lambda dtype: dtype != torch.bfloat16)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_slope_in_a_variance_however_small(dtype, joined):
    var = torch.tensor([1.0, 2.0, 25.0, 100.0]).to(dtype) * torch.tensor(subnormal(dtype), dtype=dtype)
    var, eps = var.requires_grad_(), torch.tensor([2.0, -1.0, 0.5, 4.0]).to(dtype)
    sample = fastvae.rsample_kl if joined else fastvae.rsample
    z = sample(torch.zeros(4, dtype=dtype), var, eps=eps, scale_as="var")
    (grad,) = torch.autograd.grad((z[0] if joined else z).sum(), var)
    wanted = [e / (2 * math.sqrt(v)) for e, v in zip(eps.tolist(), var.tolist(), strict=True)]
    assert grad.tolist() == pytest.approx(wanted, rel=4 * torch.finfo(dtype).eps)


def test_derivatives_of_bernoulli_at_a_logit_of_zero():
    """Both halves of the formula meet there: slopes x - 1/2, second derivatives -1/4 and 1 (in x and logit)."""
    x, logits = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)

    def total(x, logits):
        return fastvae.bernoulli_log_prob(x, logits, event_ndim=0).sum()

    def value_slope(x, logits):
        return torch.func.jvp(lambda at: fastvae.bernoulli_log_prob(x, at, event_ndim=0), (logits,), (logits + 1,))[1]

    def slope(x, logits):
        return torch.func.grad(total, 1)(x, logits)

    wanted = torch.eye(3, dtype=torch.float64) / -4
    for first in (slope, value_slope):
        torch.testing.assert_close(first(x, logits), x - 0.5, rtol=0, atol=0)
    for second in (
        torch.func.hessian(total, 1)(x, logits),
        torch.func.jacrev(slope, 1)(x, logits),
        torch.func.jacfwd(slope, 1)(x, logits),
        torch.func.jacfwd(torch.func.jacfwd(total, 1), 1)(x, logits),
        torch.autograd.functional.hessian(lambda at: total(x, at), logits),
    ):
        torch.testing.assert_close(second, wanted, rtol=0, atol=0)
    mixed = torch.func.jacrev(torch.func.jacrev(total, 1), 0)(x, logits)
    torch.testing.assert_close(mixed, torch.eye(3, dtype=torch.float64), rtol=0, atol=0)
    mixed = torch.func.jacfwd(torch.func.jacfwd(total, 1), 0)(x, logits)
    torch.testing.assert_close(mixed, torch.eye(3, dtype=torch.float64), rtol=0, atol=0)


def test_forward_mode_has_the_limits_too():
    x, logits = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([INF, -INF, INF])
    value, slope = torch.func.jvp(
        lambda at: fastvae.bernoulli_log_prob(x, at, event_ndim=0), (logits,), (torch.ones_like(logits),)
    )
    assert value.tolist() == [0, 0, -INF]
    assert slope.tolist() == [0, 0, -1]
    std, eps = torch.zeros(3), torch.tensor([2.0, -1.0, 0.0])
    mean = torch.full((3,), 0.5)
    value, slope = torch.func.jvp(
        lambda s: fastvae.rsample(mean, s, eps=eps, scale_as="std"), (std,), (torch.ones_like(std),)
    )
    assert torch.equal(value, mean)
    assert torch.equal(slope, eps)
