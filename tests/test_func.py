"""torch.func: gradients, vmap, jacobians, and these compiled."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import examples
import fastvae
from fastvae.ops import OPERATORS

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


BATCH = 4
FUNCTIONS = {
    **{name: functools.partial(examples.of_events, name) for name in OPERATORS},
    **{
        f"{name}, {reduction}": functools.partial(examples.of_events, name, reduction=reduction)
        for name in examples.LIKELIHOODS
        for reduction in ("sum", "mean")
    },
    "kl_normal of a column": lambda m, s, x: fastvae.kl_normal(m, s, x, s[..., :1], event_ndim=1),
    "rsample_kl, KL": lambda m, s, x: fastvae.rsample_kl(m, s, seed=3, event_ndim=1)[1],
    "rsample of eps": lambda m, s, x: fastvae.rsample(m, s, eps=x),
    "bernoulli_log_prob of a sum": lambda m, s, x: fastvae.bernoulli_log_prob(x, m + s, event_ndim=1),
    "gaussian_log_prob of a column": lambda m, s, x: fastvae.gaussian_log_prob(x, m, s[..., :1], event_ndim=1),
    "gaussian_log_prob of weights": lambda m, s, x: fastvae.gaussian_log_prob(x, m, 0.3, event_ndim=1, weight=s),
    "gaussian_log_prob, optimal": lambda m, s, x: fastvae.gaussian_log_prob(x, m + s, "optimal", event_ndim=1),
    "elbo of a number": lambda m, s, x: fastvae.elbo(m * s, x, 2.0).loss,
}


@pytest.fixture(params=FUNCTIONS)
def function(request, backend):
    name = request.param.split(",")[0]
    if name in OPERATORS:
        examples.skip_without_kernel(name, backend)
    return FUNCTIONS[request.param]


@pytest.fixture
def operands():
    return tuple(torch.randn(BATCH, 6, dtype=torch.float64) for _ in range(3))


def summed(function):
    return lambda *operands: function(*operands).sum()


def stacked(results):
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


def assert_all_close(actual, wanted):
    for a, w in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, w, rtol=1e-10, atol=1e-10)


@pytest.mark.not_interpreted
def test_func_grad_is_autograd(function, operands):
    leaves = [o.clone().requires_grad_() for o in operands]
    wanted = torch.autograd.grad(function(*leaves).sum(), leaves, allow_unused=True, materialize_grads=True)
    assert_all_close(grad(summed(function), (0, 1, 2))(*operands), wanted)


@pytest.mark.not_interpreted
def test_vmap_is_a_loop(function, operands):
    wanted = torch.stack([function(*(o[i] for o in operands)) for i in range(BATCH)])
    torch.testing.assert_close(vmap(function)(*operands), wanted)
    mean, log_var, x = operands
    wanted = torch.stack([function(mean[i], log_var[0], x[1]) for i in range(BATCH)])
    torch.testing.assert_close(vmap(lambda m: function(m, log_var[0], x[1]), in_dims=1)(mean.t()), wanted)


@pytest.mark.not_interpreted
def test_gradients_per_sample(function, operands):
    mean, log_var, x = operands
    gradient = grad(summed(function), (0, 1, 2))
    wanted = stacked(gradient(mean[i], log_var[i], x[0]) for i in range(BATCH))
    assert_all_close(vmap(gradient, in_dims=(0, 0, None))(mean, log_var, x[0]), wanted)


@pytest.mark.not_interpreted
def test_the_gradient_of_a_vmap(function, operands):
    gradient = grad(summed(function), (0, 1, 2))
    wanted = stacked(gradient(*(o[i] for o in operands)) for i in range(BATCH))
    assert_all_close(grad(lambda *o: vmap(function)(*o).sum(), (0, 1, 2))(*operands), wanted)


@pytest.mark.not_interpreted
def test_jacobians_and_hessians(function, operands):
    mean, log_var, x = operands
    value = function(*operands)
    jacobian = jacrev(function)(*operands)
    assert jacobian.shape == (*value.shape, *mean.shape)
    wanted = torch.autograd.functional.jacobian(lambda m: function(m, log_var, x), mean)
    torch.testing.assert_close(jacobian, wanted)
    twice = jacrev(jacrev(summed(function)))(*operands)
    wanted = torch.autograd.functional.hessian(lambda m: summed(function)(m, log_var, x), mean)
    torch.testing.assert_close(twice, wanted)


@pytest.mark.not_interpreted
def test_compiled_transforms(function, operands):
    gradient = vmap(grad(summed(function), (0, 1, 2)))
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    # Plain torch computes it, whose normals agree with a kernel's to 1e-6.
    for a, w in zip(compiled(*operands), gradient(*operands), strict=True):
        torch.testing.assert_close(a, w, rtol=1e-6, atol=1e-6)


def test_vmap_draws_noise_as_its_randomness_says():
    mean = torch.zeros(3, 50)
    different = vmap(lambda m: fastvae.rsample(m, m), randomness="different")(mean)
    assert len({tuple(row.tolist()) for row in different}) == 3
    same = vmap(lambda m: fastvae.rsample(m, m), randomness="same")(mean)
    assert torch.equal(same[0], same[1])
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda m: fastvae.rsample(m, m))(mean)


@pytest.mark.not_interpreted
def test_vmap_over_seeds():
    seeds = torch.tensor([1, 2, 3])
    mean = torch.zeros(50)
    z = vmap(lambda seed: fastvae.rsample(mean, mean, seed=seed))(seeds)
    assert all(torch.equal(z[i], fastvae.rsample(mean, mean, seed=int(s))) for i, s in enumerate(seeds))


@pytest.mark.not_interpreted
def test_forward_mode_is_reverse_mode(function, operands):
    mean, *rest = operands

    def of_mean(m):
        return function(m, *rest)

    jacobian, direction = jacrev(of_mean)(mean), torch.randn_like(mean)
    tangent = (jacobian * direction).flatten(-mean.dim()).sum(-1)
    torch.testing.assert_close(jvp(of_mean, (mean,), (direction,))[1], tangent)
    torch.testing.assert_close(jacfwd(of_mean)(mean), jacobian)
    with forward_ad.dual_level():
        dual = of_mean(forward_ad.make_dual(mean, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)
    wanted = jacrev(jacrev(summed(of_mean)))(mean)
    torch.testing.assert_close(hessian(summed(of_mean))(mean), wanted)


@pytest.mark.not_interpreted
def test_batches_of_gradients_are_one_after_the_other(function, operands):
    mean, *rest = operands
    leaf = mean.clone().requires_grad_()
    value = function(leaf, *rest)
    cotangents = torch.randn(3, *value.shape, dtype=value.dtype)
    (batch,) = torch.autograd.grad(value, leaf, cotangents, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(value, leaf, c, retain_graph=True)[0] for c in cotangents]
    torch.testing.assert_close(batch, torch.stack(each))
    for derivative, keywords in (
        (torch.autograd.functional.jacobian, {}),
        (torch.autograd.functional.jacobian, {"strategy": "forward-mode"}),
        (torch.autograd.functional.hessian, {}),
    ):
        scalar = summed(function) if derivative is torch.autograd.functional.hessian else function
        vectorized = derivative(lambda m, f=scalar: f(m, *rest), mean, vectorize=True, **keywords)
        torch.testing.assert_close(vectorized, derivative(lambda m, f=scalar: f(m, *rest), mean))


@pytest.mark.not_interpreted
@pytest.mark.parametrize("batch", [0, 1])
def test_vmap_over_nothing_and_over_one(function, operands, batch):
    mean, *rest = operands
    value, gradient = function(*operands), grad(lambda m: function(m, *rest).sum())(mean)
    mapped = mean.expand(batch, *mean.shape)
    for result, wanted in (
        (vmap(lambda m: function(m, *rest))(mapped), value),
        (vmap(grad(lambda m: function(m, *rest).sum()))(mapped), gradient),
    ):
        assert result.shape == (batch, *wanted.shape)
        torch.testing.assert_close(result, wanted.expand(batch, *wanted.shape))
