"""Losses in one pass: a likelihood reduced over the batch, its gradients made while its operands are read."""

from __future__ import annotations

import pytest
import torch

import examples
import fastvae

pytestmark = pytest.mark.usefixtures("backend")

SCALAR, ROW, FULL = (), (6,), (5, 6)


def parameters(*shapes, dtype=torch.float32):
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def gaussian(scale_shape, dtype=torch.float32, **keywords):
    x = torch.rand(FULL)
    return parameters(FULL, scale_shape, dtype=dtype), lambda m, s, **r: fastvae.gaussian_log_prob(
        x, m, s, **keywords, **r
    )


def bernoulli(x, dtype=torch.float32, **keywords):
    return parameters(FULL, dtype=dtype), lambda a, **r: fastvae.bernoulli_log_prob(x, a, **keywords, **r)


def packed():
    both = torch.randn(5, 12)
    operands = [half.requires_grad_() for half in both.chunk(2, 1)]
    return operands, lambda m, s, **r: fastvae.gaussian_log_prob(torch.zeros(FULL), m, s, **r)


CASES = {
    "bernoulli": lambda: bernoulli(torch.rand(FULL)),
    "bernoulli of uint8": lambda: bernoulli(torch.randint(0, 256, FULL, dtype=torch.uint8)),
    "bernoulli, bfloat16": lambda: bernoulli(torch.rand(FULL), torch.bfloat16),
    "bernoulli, float64": lambda: bernoulli(torch.rand(FULL), torch.float64),
    "bernoulli, weighted": lambda: bernoulli(torch.rand(FULL), weight=torch.tensor([0.0, 1, 2, 0, 1, 3])),
    "bernoulli, nothing summed before": lambda: bernoulli(torch.rand(FULL), event_ndim=0),
    "gaussian": lambda: gaussian(FULL),
    "gaussian, one variance": lambda: gaussian(SCALAR),
    "gaussian, a variance for each column": lambda: gaussian(ROW),
    "gaussian, softplus": lambda: gaussian(FULL, scale_as="softplus", scale_eps=1e-3, clamp=(-2.0, 2.0)),
    "gaussian, float64": lambda: gaussian(SCALAR, torch.float64),
    "gaussian, packed": packed,
}

# A rounding of the gradient, before and after it is rescaled.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float64: 1e-12}


def reduced(values, reduction):
    return values.mean() if reduction == "mean" else values.sum()


@pytest.mark.parametrize("upstream", [-1.0, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_reduced_batch(name, reduction, upstream):
    operands, call = CASES[name]()
    wanted = reduced(call(*operands), reduction)
    found = call(*operands, reduction=reduction)
    assert found.shape == ()
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    tolerance = TOLERANCE[operands[0].dtype]
    for grad, expected in zip(
        torch.autograd.grad(upstream * found, operands), torch.autograd.grad(upstream * wanted, operands), strict=True
    ):
        assert grad.dtype == expected.dtype
        torch.testing.assert_close(grad, expected, rtol=tolerance, atol=tolerance)


def test_values_that_require_a_gradient_get_one():
    x, logits = torch.rand(FULL, requires_grad=True), torch.randn(FULL)
    grad = torch.autograd.grad(-fastvae.bernoulli_log_prob(x, logits, reduction="sum"), x)[0]
    torch.testing.assert_close(grad, -logits)


def test_a_backward_may_be_repeated_with_another_gradient():
    (logits,), call = CASES["bernoulli"]()
    value = call(logits, reduction="mean")
    first = torch.autograd.grad(value, logits, torch.tensor(-1.0), retain_graph=True)[0].clone()
    second = torch.autograd.grad(value, logits, torch.tensor(3.0), retain_graph=True)[0]
    third = torch.autograd.grad(value, logits, torch.tensor(-1.0))[0]
    torch.testing.assert_close(second, -3 * first, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(third, first, rtol=1e-6, atol=1e-7)


def test_a_gradient_is_not_changed_after_it_was_given_out():
    (logits,), call = CASES["bernoulli"]()
    value = call(logits, reduction="sum")
    upstream = torch.tensor(-2.0)
    first = torch.autograd.grad(value, logits, upstream, retain_graph=True)[0]
    before = first.clone()
    torch.autograd.grad(value, logits, upstream)
    assert torch.equal(first, before)
    assert upstream.item() == -2.0


def test_second_derivatives():
    operands = parameters((2, 2), (2, 2), dtype=torch.float64)

    def loss(mean, log_var):
        return fastvae.gaussian_log_prob(torch.zeros(2, 2, dtype=mean.dtype), mean, log_var, reduction="mean")

    assert torch.autograd.gradcheck(loss, operands)
    assert torch.autograd.gradgradcheck(loss, operands)


def test_float16_gradients_are_not_made_before_a_loss_is_scaled():
    # 5e-8 of a mean over pixels is 0 in float16; times a scaler's 2^16 it is not.
    logits = torch.zeros(4, 5_000, dtype=torch.float16, requires_grad=True)
    x = torch.full((4, 5_000), 0.501)
    (grad,) = torch.autograd.grad(fastvae.bernoulli_log_prob(x, logits, event_ndim=0, reduction="mean") * 65536, logits)
    torch.testing.assert_close(grad.float().mean().item(), 1e-3 / 20_000 * 65536, rtol=1e-2, atol=0)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_reduces_to_zero(shape, reduction):
    logits = torch.zeros(shape, requires_grad=True)
    value = fastvae.bernoulli_log_prob(torch.zeros(shape), logits, reduction=reduction)
    assert value.item() == 0
    assert torch.autograd.grad(value, logits)[0].shape == shape


def test_a_long_batch_is_summed_in_parts():
    operands = parameters((3, 10_007), (3, 10_007))
    x = torch.rand(3, 10_007)
    wanted = fastvae.gaussian_log_prob(x, *operands).sum()
    found = fastvae.gaussian_log_prob(x, *operands, reduction="sum")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    for grad, expected in zip(
        torch.autograd.grad(-found, operands), torch.autograd.grad(-wanted, operands), strict=True
    ):
        torch.testing.assert_close(grad, expected, rtol=2e-6, atol=2e-6)


def test_it_compiles():
    (logits,), call = CASES["bernoulli"]()
    compiled = torch.compile(lambda a: -call(a, reduction="mean"), fullgraph=True, backend="aot_eager")
    (grad,) = torch.autograd.grad(compiled(logits), logits)
    (wanted,) = torch.autograd.grad(-call(logits, reduction="mean"), logits)
    torch.testing.assert_close(grad, wanted, rtol=2e-6, atol=2e-6)


def test_the_optimal_variance_reduces_too():
    mean = torch.randn(FULL, requires_grad=True)
    x = torch.rand(FULL)
    each = fastvae.gaussian_log_prob(x, mean, "optimal")
    torch.testing.assert_close(fastvae.gaussian_log_prob(x, mean, "optimal", reduction="mean"), each.mean())


@pytest.mark.parametrize("name", examples.LIKELIHOODS)
def test_opcheck(name, backend):
    examples.skip_without_kernel(name, backend)
    operator = examples.LIKELIHOODS[name]
    for given in examples.variants(operator):
        torch.library.opcheck(operator.one_pass.call, examples.contract_arguments(operator, operator.one_pass, given))


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', got 'median'"):
        fastvae.bernoulli_log_prob(torch.zeros(FULL), torch.zeros(FULL), reduction="median")
