"""The bound of K samples, and the doubly reparameterised gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def log_densities(*shape, dtype=torch.float64):
    return [(torch.randn(shape, dtype=torch.float64) * 30 - 100).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 4), (7, 4), (5, 2, 3), (6,), (3, 0)])
def test_the_bound_is_the_logarithm_of_the_mean_weight(shape, dtype):
    operands = log_densities(*shape, dtype=dtype)
    log_px, log_pz, log_qz = (t.detach().double().cpu().numpy() for t in operands)
    log_w = log_px + log_pz - log_qz
    bound = fastvae.importance_weighted_bound(*operands)
    assert bound.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wanted = logsumexp(log_w, axis=0) - math.log(shape[0])
    np.testing.assert_allclose(bound.detach().cpu(), wanted, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=1e-5)
    weights = np.exp(log_w - logsumexp(log_w, axis=0))
    for grad, sign in zip(torch.autograd.grad(bound.sum(), operands), (1, 1, -1), strict=True):
        assert grad.dtype == dtype
        tolerance = {torch.bfloat16: 4e-3, torch.float16: 5e-4}.get(dtype, 1e-4)  # one rounding
        np.testing.assert_allclose(grad.double().cpu(), sign * weights, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("shift", [-1e30, -1e6, 1e6, 1e30])
def test_the_bound_moves_with_its_weights(shift):
    """Without a maximum taken out, exponentials would vanish or overflow at any of these."""
    log_w, zero = torch.full((4, 3), shift), torch.zeros(4, 3)
    assert (fastvae.importance_weighted_bound(log_w, zero, zero) == shift).all()
    log_w = torch.tensor([[0.0], [-3.0], [2.0]], dtype=torch.float64)
    wanted = fastvae.importance_weighted_bound(log_w, *torch.zeros(2, 3, 1)) + 4096.0
    assert torch.allclose(fastvae.importance_weighted_bound(log_w + 4096.0, *torch.zeros(2, 3, 1)), wanted, rtol=1e-15)


def test_one_weight_may_be_zero_and_nan_comes_through():
    log_w, zero = torch.tensor([[-math.inf, math.nan], [1.0, 1.0]], requires_grad=True), torch.zeros(2, 2)
    bound = fastvae.importance_weighted_bound(log_w, zero, zero)
    assert bound[0].item() == pytest.approx(1 - math.log(2))
    assert bound[1].isnan()
    assert torch.autograd.grad(bound[0], log_w)[0][:, 0].tolist() == [0, 1]


def test_densities_broadcast_and_their_gradients_do_not():
    log_px, log_pz, log_qz = log_densities(5, 4)
    row = log_px.detach()[0].clone().requires_grad_()
    bound = fastvae.importance_weighted_bound(row, log_pz, log_qz)
    torch.testing.assert_close(bound, fastvae.importance_weighted_bound(row.expand(5, 4), log_pz, log_qz))
    torch.testing.assert_close(torch.autograd.grad(bound.sum(), row)[0], torch.ones_like(row))


@pytest.mark.not_interpreted
def test_the_bound_has_all_its_derivatives():
    operands = log_densities(4, 3)
    assert torch.autograd.gradcheck(fastvae.importance_weighted_bound, operands)
    assert torch.autograd.gradgradcheck(fastvae.importance_weighted_bound, operands)
    z = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)

    def doubly(z, x):
        z, tap = fastvae.functional.doubly_reparameterized(z)
        log_w = -(z - x).square().sum(-1)
        return fastvae.importance_weighted_bound(log_w, *torch.zeros(2, 1, 1), tap=tap)

    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    of_z, of_x = torch.autograd.grad((doubly(z, x) * torch.tensor([1.0, -2.0])).sum(), (z, x))
    weights = (-(z - x).square().sum(-1)).softmax(0)[..., None]
    upstream = torch.tensor([1.0, -2.0])[:, None]
    torch.testing.assert_close(of_z, -2 * weights.square() * (z - x) * upstream)
    torch.testing.assert_close(of_x, (2 * weights * (z - x)).sum(0) * upstream)
    assert (torch.autograd.grad((doubly(z, x) * 0).sum(), z)[0] == 0).all()
    each = torch.func.vmap(torch.func.grad(lambda z, x: doubly(z[:, None], x[None]).sum()), in_dims=1)(z, x.T)
    torch.testing.assert_close(each.movedim(0, 1) * upstream, of_z)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: fastvae.importance_weighted_bound(a, a, 0.0), TypeError, "log_qz must be a tensor, got float"),
        (lambda a: fastvae.importance_weighted_bound(a, a[:3], a), ValueError, "log_pz does not broadcast"),
        (lambda a: fastvae.importance_weighted_bound(a.long(), a, a), TypeError, "log_px must be torch.bfloat16"),
        (lambda a: fastvae.importance_weighted_bound(*[a.sum()] * 3), ValueError, "log_px must have a first dimension"),
        (lambda a: fastvae.importance_weighted_bound(*[a[:0]] * 3), ValueError, "K at least 1, got shape \\[0, 3\\]"),
        (
            lambda a: fastvae.importance_weighted_bound(a, a, a, tap=a),
            ValueError,
            "tap must be \\[K \\+ 1, \\*batch\\]",
        ),
        (lambda a: fastvae.functional.doubly_reparameterized(a.long()), TypeError, "z must be torch.bfloat16"),
        (
            lambda a: fastvae.functional.doubly_reparameterized(a[0]),
            ValueError,
            "z must be \\[K, \\*batch, \\*event\\]",
        ),
    ],
)
def test_what_makes_no_bound_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.zeros(4, 3))
