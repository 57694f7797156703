"""First and second derivatives, against finite differences in float64."""

from __future__ import annotations

import functools

import pytest
import torch

import examples
import fastvae
from fastvae.ops import OPERATORS

pytestmark = pytest.mark.usefixtures("backend")


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def example_case(operator):
    """Of the operands that get gradients; the others stand where they stood."""
    operands = [o.double() for o in examples.operands(operator, (3, 2))]
    first = len(operands) - len(operator.differentiable)
    call = functools.partial(examples.EXAMPLES[operator.name].call, *operands[:first])
    return call, [o.requires_grad_() for o in operands[first:]]


def derivative_cases():
    def positive(raw):
        return raw.exp() + 0.1

    mean, scale, other, weight = double(3, 2), double(3, 2), double(3, 2), torch.tensor([0.0, 1.5], dtype=torch.float64)
    row, beta = double(2), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    cases = {name: example_case(operator) for name, operator in OPERATORS.items()}
    cases |= {
        "rsample of samples": (lambda m, s: fastvae.rsample(m, s, seed=3, num_samples=2, clamp=(-1, 1)), (mean, row)),
        "rsample of eps": (lambda m, s, e: fastvae.rsample(m, s, eps=e), (mean, row, other)),
        "kl_standard_normal elementwise": (lambda m, s: fastvae.kl_standard_normal(m, s, event_ndim=0), (mean, scale)),
        "kl_normal of a row": (fastvae.kl_normal, (mean, scale, other, row)),
        "bernoulli_log_prob of weights": (
            lambda x, a, w: fastvae.bernoulli_log_prob(x, a, weight=w),
            (mean, scale, row),
        ),
        "gaussian_log_prob of a row": (fastvae.gaussian_log_prob, (mean, scale, row)),
        "gaussian_log_prob, weighted": (
            lambda x, m, s: fastvae.gaussian_log_prob(x, m, s, weight=weight),
            (mean, scale, row),
        ),
        "gaussian_log_prob, optimal": (lambda x, m: fastvae.gaussian_log_prob(x, m, "optimal"), (mean, scale)),
        "elbo": (lambda a, b, c: tuple(fastvae.elbo(a, b, c)), (mean, row, beta)),
        "elbo of samples": (lambda a, b: tuple(fastvae.elbo(a, b, 0.3, reduction="none")), (mean, row)),
    }
    for over in ("element", "latent", "sample", "batch"):
        keywords = {"free_bits": 0.3, "free_bits_over": over, "weight": weight}
        cases[f"free bits over {over}"] = (functools.partial(fastvae.kl_standard_normal, **keywords), (mean, scale))
    for scale_as in ("log_std", "var", "std", "softplus"):
        keywords = {"scale_as": scale_as, "clamp": (-2.0, 2.0)}
        cases[f"gaussian_log_prob, {scale_as}"] = (
            lambda x, m, s, k=keywords: fastvae.gaussian_log_prob(x, m, positive(s), **k),
            (mean, other, scale),
        )
        cases[f"kl_normal, {scale_as}"] = (
            lambda m, s, n, t, k=keywords: fastvae.kl_normal(m, positive(s), n, positive(t), **k),
            (mean, scale, other, row),
        )
        cases[f"rsample_kl, {scale_as}"] = (
            lambda m, s, k=keywords: fastvae.rsample_kl(m, positive(s), seed=2, **k),
            (mean, scale),
        )
    return cases


@pytest.mark.not_interpreted
@pytest.mark.parametrize("name", derivative_cases())
def test_first_and_second_derivatives(name, backend):
    if name in OPERATORS:
        examples.skip_without_kernel(name, backend)
    call, operands = derivative_cases()[name]
    assert torch.autograd.gradcheck(call, operands)
    assert torch.autograd.gradgradcheck(call, operands)


def test_backward_may_be_called_twice():
    mean, log_var = double(5, 3), double(5, 3)
    z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
    value = z.square().sum() + kl.sum() + fastvae.gaussian_log_prob(mean, z, 0.0).sum()
    first = torch.autograd.grad(value, (mean, log_var), retain_graph=True)
    second = torch.autograd.grad(value, (mean, log_var))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradients_of_some_operands_only(wanted):
    operands = [double(5, 3).detach() for _ in range(2)]
    operands[wanted].requires_grad_()
    z, kl = fastvae.rsample_kl(*operands, seed=1)
    both = [o.detach().requires_grad_() for o in operands]
    expected = torch.autograd.grad(sum(t.sum() for t in fastvae.rsample_kl(*both, seed=1)), both)
    (gradient,) = torch.autograd.grad(z.sum() + kl.sum(), operands[wanted])
    assert torch.equal(gradient, expected[wanted])
