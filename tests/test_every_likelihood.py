"""What every likelihood keeps, whichever it is: truth, reductions, masks, weights, dtypes, layouts, documents."""

from __future__ import annotations

import functools
import inspect
import math

import oracles
import pytest
import torch

import examples

pytestmark = pytest.mark.usefixtures("backend")

EXCESS_BITS = 4
SHAPE = (11, 7)
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.fixture(params=examples.LIKELIHOODS)
def likelihood(request, backend):
    examples.skip_without_kernel(request.param, backend)
    return examples.LIKELIHOODS[request.param]


@pytest.fixture
def call(likelihood):
    return examples.EXAMPLES[likelihood.name].call


def leaves(likelihood, dtype=torch.float32, shape=SHAPE):
    """Operands; those that get gradients require them."""
    operands = examples.operands(likelihood, shape, dtype)
    return [
        o.requires_grad_(n in likelihood.differentiable) for n, o in zip(likelihood.operands, operands, strict=True)
    ]


def gradients(value, operands):
    return torch.autograd.grad(value, [o for o in operands if o.requires_grad], retain_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradients_are_the_truth(likelihood, call, dtype, backend):
    points = [o.numpy() for o in examples.operands(likelihood, (64,), torch.float64)]
    formula = examples.EXAMPLES[likelihood.name].truth
    fixed = len(points) - len(likelihood.differentiable)
    elementwise = functools.partial(call, event_ndim=0)
    if fixed:  # `measure` takes what gets no gradient last
        points = points[fixed:] + points[:fixed]
        turned = lambda f: lambda *args: f(*args[-fixed:], *args[:-fixed])  # noqa: E731
        elementwise, formula = turned(elementwise), turned(formula)
    for name, measured in oracles.measure(elementwise, formula, points, dtype, constants=fixed):
        oracles.record(f"{likelihood.name} of its example {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


@pytest.mark.parametrize("upstream", [-1.0, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_reduction_is_that_of_the_batch(likelihood, call, reduction, upstream):
    operands = leaves(likelihood)
    each, whole = call(*operands), call(*operands, reduction=reduction)
    wanted = each.mean() if reduction == "mean" else each.sum()
    torch.testing.assert_close(whole, wanted, rtol=1e-6, atol=1e-6)
    for grad, expected in zip(
        gradients(upstream * whole, operands), gradients(upstream * wanted, operands), strict=True
    ):
        torch.testing.assert_close(grad, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("samples", [1, 3, 11])
def test_samples_on_a_leading_axis_are_no_event(likelihood, call, samples):
    """[K, B, D] against [B, D], also where K is 1 or B: nothing is summed over the batch."""
    x, *parameters = examples.operands(likelihood, SHAPE)
    many = [p.expand(samples, *SHAPE).clone() for p in parameters]
    each = call(x, *parameters)
    assert torch.equal(call(x, *many), each.expand(samples, *each.shape))
    assert torch.equal(call(x.expand(samples, *SHAPE).clone(), *parameters), each.expand(samples, *each.shape))
    mean = call(x, *many, reduction="mean")
    torch.testing.assert_close(mean, each.mean())


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_elements_are_exactly_zero_even_as_nan(likelihood, call, dtype):
    operands, mask = leaves(likelihood, dtype), torch.rand(SHAPE) > 0.4
    clean = [o.detach().clone().requires_grad_(o.requires_grad) for o in operands]
    with torch.no_grad():
        for operand in operands:
            operand[~mask] = math.nan
    value = call(*operands, mask=mask)
    torch.testing.assert_close(value, (call(*clean, event_ndim=0) * mask).sum(1), rtol=1e-6, atol=1e-6)
    for grad, wanted in zip(
        gradients(value.sum(), operands), gradients(call(*clean, mask=mask).sum(), clean), strict=True
    ):
        assert (grad[~mask] == 0).all()
        assert torch.equal(grad, wanted)


@pytest.mark.parametrize("shape", [(11, 7), (7,), (11, 1), ()])
def test_weights_multiply_the_terms(likelihood, call, shape):
    operands, weight = leaves(likelihood, torch.float64), torch.rand(shape, dtype=torch.float64)
    value, wanted = call(*operands, weight=weight), (call(*operands, event_ndim=0) * weight).sum(1)
    torch.testing.assert_close(value, wanted)
    for grad, expected in zip(gradients(value.sum(), operands), gradients(wanted.sum(), operands), strict=True):
        torch.testing.assert_close(grad, expected)
    learned = weight.requires_grad_()
    (grad,) = torch.autograd.grad(call(*operands, weight=learned).sum(), learned)
    torch.testing.assert_close(grad, call(*operands, event_ndim=0).sum_to_size(shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_in_float32_and_rounded_once(likelihood, call, dtype):
    half = leaves(likelihood, dtype)
    wide = [o.detach().float().requires_grad_(o.requires_grad) for o in half]
    assert torch.equal(call(*half), call(*wide))
    for grad, wanted in zip(gradients(call(*half).sum(), half), gradients(call(*wide).sum(), wide), strict=True):
        assert torch.equal(grad, wanted.to(dtype))


def test_unwanted_gradients_change_no_wanted_one(likelihood, call):
    operands = leaves(likelihood)
    possible = [o for o in operands if o.requires_grad]
    wanted = gradients(call(*operands).sum(), operands)
    for i, expected in enumerate(wanted):
        for reduction in ("none", "sum"):
            only = [o.detach().requires_grad_(o is possible[i]) for o in operands]
            (grad,) = gradients(call(*only, reduction=reduction).sum(), only)
            torch.testing.assert_close(grad, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("which", [0, -1])
def test_a_row_gets_its_gradient_summed(likelihood, call, which):
    operands = leaves(likelihood, torch.float64)
    operand = likelihood.operands.index(likelihood.differentiable[which])
    operands[operand] = operands[operand].detach()[:1].clone().requires_grad_()
    whole = list(operands)
    whole[operand] = operands[operand].detach().expand(SHAPE).clone().requires_grad_()
    (grad,) = torch.autograd.grad(call(*operands).sum(), operands[operand])
    (each,) = torch.autograd.grad(call(*whole).sum(), whole[operand])
    torch.testing.assert_close(grad, each.sum(0, keepdim=True))


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"reduction": "median"}, "reduction must be one of 'mean', 'sum', 'none', got 'median'"),
        ({"event_ndim": 3}, r"event_ndim must be in \[0, 2\] for shape \[11, 7\], got 3"),
        ({"mask": torch.ones(5, dtype=torch.bool, device="cpu")}, r"mask \[5\] does not broadcast"),
        ({"weight": torch.ones(5, device="cpu")}, r"weight \[5\] does not broadcast"),
    ],
)
def test_wrong_keywords_are_named(likelihood, call, keywords, error):
    given = {k: v.to(torch.get_default_device()) if isinstance(v, torch.Tensor) else v for k, v in keywords.items()}
    with pytest.raises(ValueError, match=error):
        call(*leaves(likelihood), **given)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_wrong_operands_are_named(likelihood, call, which):
    operands = examples.operands(likelihood, SHAPE)
    parameter = list(inspect.signature(call).parameters.values())[which % len(operands)]
    name, optional = parameter.name, parameter.default is None
    for wrong, error, message in (
        (None, TypeError, f"{name} must be a tensor, got NoneType"),
        (operands[which].to(torch.complex64), TypeError, f"{name} must be torch.bfloat16"),
        (operands[which].to("meta"), ValueError, "one device is wanted"),
        (torch.zeros(5), ValueError, "does not broadcast with the other operands"),
    ):
        given = list(operands)
        given[which] = wrong
        if wrong is None and optional:
            continue
        with pytest.raises(error, match=message):
            call(*given)


def test_it_is_public_under_its_name(likelihood, call):
    function = getattr(call, "func", call)  # of a functools.partial
    assert examples.public(likelihood.name) is function
    keywords = inspect.signature(call).parameters
    assert {"event_ndim", "reduction", "mask", "weight"} <= keywords.keys()
