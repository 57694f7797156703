"""A mixture of discretized logistics, whose components the channels share: against mpmath, and against plain torch."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import oracles
import pytest
import torch
from mpmath import mp

import fastvae
from fastvae import backends
from fastvae.ops import _chunks
from fastvae.ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB

EXCESS_BITS = 4
B, K, C, PIXELS = 5, 3, 2, (2, 3)

log_prob = fastvae.discretized_logistic_mixture_log_prob


ROWS = {"kernel": None, "one chunk": 64, "chunks": 2}  # of a chunk


@pytest.fixture(params=ROWS)
def way(request, monkeypatch):
    """By what serves here, a kernel of the whole where there is one; or chunk by chunk, as where there is none."""
    rows = ROWS[request.param]
    monkeypatch.setattr(_chunks, "rows_in_cache", lambda *_: rows)
    with contextlib.nullcontext() if rows is None else backends.use("reference"):
        yield


kernel_and_chunks = pytest.mark.parametrize("way", ["kernel", "chunks"], indirect=True)


# --- one pixel of two channels, a mixture of two: the truth ---


def mass(x, mean, log_scale, bins=256):
    half, scale = mp.mpf(1) / (2 * (bins - 1)), mp.exp(log_scale)
    below = 0 if x < half else mp.sigmoid((x - half - mean) / scale)
    return (1 if x > 1 - half else mp.sigmoid((x + half - mean) / scale)) - below


def truth(*scalars):
    """Of x, mixture_logits, mean and log_scale of components and channels, one after the other."""
    x, logits, mean, log_scale = scalars[:2], scalars[2:4], scalars[4:8], scalars[8:]
    weights = [mp.exp(logit) for logit in logits]
    of_components = (mass(x[0], mean[k], log_scale[k]) * mass(x[1], mean[k + 1], log_scale[k + 1]) for k in (0, 2))
    return mp.log(sum(w * p for w, p in zip(weights, of_components, strict=True)) / sum(weights))


def of_scalars(*scalars):
    x, logits, mean, log_scale = (torch.stack(s, -1) for s in (scalars[:2], scalars[2:4], scalars[4:8], scalars[8:]))
    return log_prob(x, logits, mean.unflatten(-1, (2, 2)), log_scale.unflatten(-1, (2, 2)))


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 8), (torch.float64, 4)])
def test_is_accurate(dtype, count):
    generator = np.random.default_rng(31)
    x = generator.integers(0, 256, (2, count)) / 255
    x[:, :2] = generator.integers(0, 2, (2, 2))  # the open bins
    log_scale = generator.uniform(-7, 2, (4, count))
    distance = oracles.signed(generator, oracles.log_uniform(generator, 1e-2, 20, 4 * count)).reshape(4, count)
    mean = np.concatenate((x, x)) - np.exp(log_scale) * distance
    points = (*x, *generator.standard_normal((2, count)), *mean, *log_scale)
    for quantity, measured in oracles.measure(of_scalars, truth, points, dtype):
        assert measured.excess_bits.max() <= EXCESS_BITS, quantity


@pytest.mark.parametrize("bins", [2, 256])
def test_the_masses_of_all_bins_sum_to_1(bins):
    x = torch.arange(bins, dtype=torch.float64).unsqueeze(-1) / (bins - 1)
    logits, mean, log_scale = torch.randn(3), torch.rand(3, 1), torch.tensor([[-6.0], [-2.0], [1.0]])
    operands = (t.double().expand(bins, *t.shape) for t in (logits, mean, log_scale))
    torch.testing.assert_close(log_prob(x, *operands, bins=bins).exp().sum().item(), 1.0, rtol=1e-12, atol=0)


# --- images, against plain torch in float64, where the scales are wide enough for it ---


def operands(samples=(4,), dtype=torch.float64):
    x = torch.randint(0, 256, (B, C, *PIXELS)) / 255
    logits, mean = torch.randn(*samples, B, K, *PIXELS), torch.rand(*samples, B, K, C, *PIXELS)
    return [t.to(dtype).requires_grad_() for t in (x, logits, mean, 0.3 * torch.randn(mean.shape) - 1.5)]


def plain(x, logits, mean, log_scale, weight=1.0):
    """The published expression, the mixture's with its logarithm of a difference."""
    x, half, scale = x.unsqueeze(1), 0.5 / 255, log_scale.exp()
    below = torch.where(x < half, 0.0, ((x - half - mean) / scale).sigmoid())
    above = torch.where(x > 1 - half, 1.0, ((x + half - mean) / scale).sigmoid())
    of_components = (above - below).log().sum(-3) + logits.log_softmax(-3)
    return (of_components.logsumexp(-3) * weight).sum((-1, -2))


def gradients(value, leaves, upstream=None):
    return torch.autograd.grad(value, leaves, upstream)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("samples", [(), (4,)], ids=["rows", "samples"])
def test_equals_plain_torch(samples, reduction):
    leaves = operands(samples)
    found, wanted = log_prob(*leaves, reduction=reduction), plain(*leaves)
    wanted = {"none": lambda t: t, "sum": torch.sum, "mean": torch.mean}[reduction](wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)  # plain torch's differences cancel
    upstream = torch.randn_like(wanted)
    torch.testing.assert_close(
        gradients(found, leaves, upstream), gradients(wanted, leaves, upstream), rtol=1e-10, atol=1e-10
    )
    with torch.no_grad():
        torch.testing.assert_close(log_prob(*leaves, reduction=reduction), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("backend")
def test_on_every_backend(monkeypatch):
    monkeypatch.setattr(_chunks, "rows_in_cache", lambda *_: 2)
    leaves = operands((2,))
    found, wanted = log_prob(*leaves), plain(*leaves)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    upstream = torch.randn_like(wanted)
    pairs = gradients(found, leaves, upstream), gradients(wanted, leaves, upstream)
    torch.testing.assert_close(*pairs, rtol=1e-10, atol=1e-10)


@kernel_and_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_mask_weight_and_bytes(way, reduction):
    _, *leaves = operands()
    x = torch.randint(0, 256, (B, C, *PIXELS), dtype=torch.uint8)
    mask, weight = torch.rand(B, *PIXELS) > 0.3, torch.rand(PIXELS, dtype=torch.float64)
    found = log_prob(x, *leaves, mask=mask, weight=weight, reduction=reduction)
    wanted = plain(x.double() / 255, *leaves, mask * weight)
    wanted = wanted.sum() if reduction == "sum" else wanted
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(found.sum(), leaves), gradients(wanted.sum(), leaves), rtol=1e-9, atol=1e-9)


@kernel_and_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_what_is_masked_may_be_nan(way, reduction):
    x, *leaves = (t.detach() for t in operands(()))
    mask = torch.rand(B, *PIXELS) > 0.5
    for t in leaves:
        t.movedim((0, -2, -1), (0, 1, 2))[~mask] = math.nan
        t.requires_grad_()
    found = log_prob(x, *leaves, mask=mask, reduction=reduction)
    assert found.isfinite().all()
    for grad in gradients(found.sum(), leaves):
        assert grad.isfinite().all()
        assert not grad.movedim((0, -2, -1), (0, 1, 2))[~mask].any()


def test_a_weight_of_pixels_gets_a_gradient():
    leaves = [*operands(), torch.rand(PIXELS, dtype=torch.float64, requires_grad=True)]
    found = log_prob(*leaves[:-1], weight=leaves[-1], reduction="mean")
    torch.testing.assert_close(gradients(found, leaves), gradients(plain(*leaves).mean(), leaves))


@kernel_and_chunks
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_first_and_second_derivatives(way, reduction):
    leaves = [t.detach()[..., :1, :1].requires_grad_() for t in operands(())]

    def function(*given):
        return log_prob(*given, reduction=reduction)

    # A first backward has the gradients that were made ahead, a second one makes them anew, in another order.
    assert torch.autograd.gradcheck(function, leaves, nondet_tol=1e-12, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_torch_func_and_one_graph(reduction):
    x, logits, mean, log_scale = (t.detach() for t in operands(()))

    def of(function):
        return lambda m, s: function(x, logits, m, s).sum()

    def fused(*given):
        return log_prob(*given, reduction=reduction)

    torch.testing.assert_close(torch.func.grad(of(fused))(mean, log_scale), torch.func.grad(of(plain))(mean, log_scale))
    tangents = torch.rand_like(mean), torch.rand_like(mean)
    forward_mode = [torch.func.jvp(of(f), (mean, log_scale), tangents) for f in (fused, plain)]
    torch.testing.assert_close(*forward_mode)
    several = torch.rand(4, *mean.shape, dtype=torch.float64)
    mapped = [torch.func.vmap(of(f), (0, None))(several, log_scale) for f in (fused, plain)]
    torch.testing.assert_close(*mapped)
    leaves = [t.requires_grad_() for t in (mean, log_scale)]
    value = torch.compile(of(fused), fullgraph=True, backend="aot_eager")(*leaves)
    torch.testing.assert_close(gradients(value, leaves), gradients(of(plain)(*leaves), leaves))


def test_opcheck_and_bits():
    given = [t.detach().float() for t in operands()]
    arguments = (*given, None, 1.0, 0.5 / 255)
    operator = DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
    for contract, call in (
        (operator.forward, arguments),
        (operator.backward, (torch.randn(4, B), *arguments, [True] * 4)),
        (operator.one_pass, (*arguments, 0.5, [False, True, True, True])),
    ):
        torch.library.opcheck(contract.call, call)
        assert all(map(torch.equal, *([t] if isinstance(t, torch.Tensor) else t for t in (contract.call(*call),) * 2)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    x, *leaves = (t.detach() for t in operands((), torch.float32))
    halves = [t.to(dtype).requires_grad_() for t in leaves]
    singles = [t.detach().float().requires_grad_() for t in halves]
    found, wanted = log_prob(x, *halves), log_prob(x, *singles)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    for a, b in zip(gradients(found.sum(), halves), gradients(wanted.sum(), singles), strict=True):
        torch.testing.assert_close(a, b.to(dtype), rtol=1e-2, atol=1e-6)


def test_nothing_of_components_is_kept_but_the_gradients():
    leaves = [t.detach().float().requires_grad_() for t in operands(())]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        log_prob(*leaves)
    assert set(kept) <= {t.data_ptr() for t in leaves}


WRONG = {
    r"x must be \[B, C, \*pixels\], got \[4\]": ((4,), (4, 2), (4, 2, 3), (4, 2, 3)),
    r"wanted x \[B, C, .*; got x \[4, 3\], mixture_logits \[4, 2\], mean \[4, 3, 2\]": (
        (4, 3),
        (4, 2),
        (4, 3, 2),
        (4, 2, 3),
    ),
    r"wanted x .*, K 1 at least; got": ((4, 3), (4, 0), (4, 0, 3), (4, 0, 3)),
    r"log_scale \[4, 2, 3, 2\]": ((4, 3), (4, 2), (4, 2, 3), (4, 2, 3, 2)),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_argument(message):
    with pytest.raises(ValueError, match=message):
        log_prob(*map(torch.zeros, WRONG[message]))


def test_errors_of_numbers_and_masks():
    given = [torch.zeros(s) for s in ((4, 3, 5), (4, 2, 5), (4, 2, 3, 5), (4, 2, 3, 5))]
    with pytest.raises(ValueError, match="bins must be at least 2, got 1"):
        log_prob(*given, bins=1)
    with pytest.raises(ValueError, match="reduction must be one of"):
        log_prob(*given, reduction="all")
    with pytest.raises(ValueError, match=r"weight \[3, 5\] does not broadcast to the elements' shape \[4, 5\]"):
        log_prob(*given, weight=torch.zeros(3, 5))
    with pytest.raises(TypeError, match="mean must be"):
        log_prob(given[0], given[1], given[2].int(), given[3])


def test_an_empty_batch():
    leaves = [torch.zeros(s, requires_grad=True) for s in ((0, 3, 5), (0, 2, 5), (0, 2, 3, 5), (0, 2, 3, 5))]
    assert log_prob(*leaves).shape == (0,)
    value = log_prob(*leaves, reduction="mean")
    assert value == 0
    assert [g.shape for g in gradients(value, leaves)] == [t.shape for t in leaves]
