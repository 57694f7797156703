"""What torch tests its own functions and distributions with, on the replacements."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import distributions as theirs
from torch.distributions import kl_divergence

import fastvae.functional as fast
from fastvae import distributions as ours

pytest.importorskip("expecttest", reason="expecttest was not found, which torch's samples import")
from torch.testing._internal import common_methods_invocations as torchs

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.not_interpreted]

OPERATORS = {
    op.name.rpartition(".")[2]: op
    for op in torchs.op_db
    if op.name.startswith("nn.functional.") and op.name.rpartition(".")[2] in fast.torch_losses.__all__
}
# Of some ten terms in float32; results in half precision are rounded once more.
CLOSE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
}


def test_every_loss_has_samples():
    assert set(OPERATORS) == set(fast.torch_losses.__all__)
    assert "binary_cross_entropy_with_logits" in OPERATORS


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_samples_of_a_loss(name, dtype):
    operator, device = OPERATORS[name], torch.get_default_device()
    samples = list(operator.sample_inputs(device, dtype, requires_grad=True))
    for sample in samples:
        # What no kernel takes is torch's own, roundings included.
        torchs_own = "pos_weight" in sample.kwargs
        exact = (
            sample if torchs_own else sample.transform(lambda t: t.detach().double().requires_grad_(t.requires_grad))
        )
        result = getattr(fast, name)(sample.input, *sample.args, **sample.kwargs)
        truth = operator.op(exact.input, *exact.args, **exact.kwargs)
        assert result.dtype == operator.op(sample.input, *sample.args, **sample.kwargs).dtype
        upstream = torch.rand_like(result)
        grads = torch.autograd.grad(result, leaves(sample), upstream, allow_unused=True)
        truths = torch.autograd.grad(truth, leaves(exact), upstream.to(truth.dtype), allow_unused=True)
        for found, wanted in zip((result, *grads), (truth, *truths), strict=True):
            assert (found is None) == (wanted is None), sample
            if found is not None:
                # Of a Poisson target of 0 torch differentiates Stirling's term to NaN.
                known = ~wanted.isnan()
                torch.testing.assert_close(found[known].double(), wanted[known].double(), **CLOSE[dtype])
    assert len(samples) > 3


def in_double(tensor):
    return tensor.detach().double().requires_grad_(tensor.requires_grad)


def leaves(sample):
    values = (sample.input, *sample.args, *sample.kwargs.values())
    return [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]


@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.error_inputs_func])
def test_errors_of_a_loss(name):
    for error in OPERATORS[name].error_inputs(torch.get_default_device()):
        sample = error.sample_input
        with pytest.raises(error.error_type, match=error.error_regex):
            getattr(fast, name)(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("name", OPERATORS)
def test_signatures_are_torchs(name):
    found, wanted = (inspect.signature(f).parameters for f in (getattr(fast, name), getattr(torch.nn.functional, name)))
    positional = [p for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [(p.name, p.default) for p in wanted.values()]


# The parameters that torch's test_distributions.py goes through: numbers, shapes that broadcast, edges.
NORMALS = [
    lambda: (torch.randn(5, 5), torch.randn(5, 5).abs()),
    lambda: (torch.randn(1), torch.randn(1).abs()),
    lambda: (torch.tensor([1.0, 0.0]), torch.tensor([1e-5, 1e5])),
    lambda: (torch.randn(5, 5), torch.randn(1).abs()),
    lambda: (torch.randn(2, 1), torch.randn(3).abs()),
    lambda: (0.2, 0.6),
    lambda: (torch.zeros(2, 3), 1.5),
    lambda: (torch.randn(0, 3), torch.ones(3)),
]
BERNOULLIS = [
    lambda: {"probs": torch.tensor([0.7, 0.2, 0.4])},
    lambda: {"probs": torch.tensor([0.0, 1.0, 0.5])},
    lambda: {"probs": 0.3},
    lambda: {"logits": torch.tensor([-100.0, 0.0, 100.0])},
    lambda: {"logits": torch.randn(2, 1)},
    lambda: {"probs": torch.rand(0, 3)},
]
SAMPLE_SHAPES = [(), (1,), (8,), (3, 2), (0,)]


def pair(kind, parameters):
    found, wanted = (getattr(module, kind) for module in (ours, theirs))
    if isinstance(parameters, dict):
        return found(**parameters), wanted(**parameters)
    return found(*parameters), wanted(*parameters)


ALL = [("Normal", make) for make in NORMALS] + [("Bernoulli", make) for make in BERNOULLIS]


@pytest.mark.parametrize("sample_shape", SAMPLE_SHAPES, ids=str)
@pytest.mark.parametrize(("kind", "make"), ALL)
def test_shapes_densities_and_moments(kind, make, sample_shape):
    found, wanted = pair(kind, make())
    assert (found.batch_shape, found.event_shape) == (wanted.batch_shape, wanted.event_shape)
    assert found.sample(sample_shape).shape == wanted.sample(sample_shape).shape
    value = wanted.sample(sample_shape)
    torch.testing.assert_close(found.log_prob(value), wanted.log_prob(value), **CLOSE[torch.float32])
    for name in ("mean", "variance", "stddev", "mode"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), equal_nan=True)
    torch.testing.assert_close(found.entropy(), wanted.entropy())


@pytest.mark.parametrize("ndims", [0, 1])
@pytest.mark.parametrize(("kind", "make"), [*ALL[:7], *ALL[8:-1]])  # torch's own cannot add up what is empty
def test_expanded_and_independent(kind, make, ndims):
    both = pair(kind, make())
    shape = (4, *torch.broadcast_shapes(both[0].batch_shape, (1,)))
    found, wanted = (m.Independent(d.expand(shape), ndims) for m, d in zip((ours, theirs), both, strict=True))
    value = wanted.sample((2,))
    torch.testing.assert_close(found.log_prob(value), wanted.log_prob(value), **CLOSE[torch.float32])
    (found, wanted), value = (d.expand((6, *d.batch_shape)) for d in (found, wanted)), value[:, None]
    torch.testing.assert_close(found.log_prob(value), wanted.log_prob(value), **CLOSE[torch.float32])
    if kind == "Normal":
        torch.testing.assert_close(kl_divergence(found, found), torch.zeros(found.batch_shape), rtol=0, atol=1e-6)


def test_edges_and_what_is_inherited():
    """A standard deviation of 0 samples the mean; a density is one where it is certain."""
    mean = torch.randn(3)
    torch.testing.assert_close(ours.Normal(mean, torch.zeros(3)).rsample((2,)), mean.expand(2, 3))
    value = torch.rand(3)
    torch.testing.assert_close(ours.Normal(mean, 1.0).cdf(value), theirs.Normal(mean, 1.0).cdf(value))
    torch.testing.assert_close(ours.Normal(mean, 1.0).icdf(value), theirs.Normal(mean, 1.0).icdf(value))
    transforms = [theirs.transforms.ExpTransform()]
    of_ours, of_theirs = (theirs.TransformedDistribution(m.Normal(mean, 1.0), transforms) for m in (ours, theirs))
    torch.testing.assert_close(of_ours.log_prob(value), of_theirs.log_prob(value), **CLOSE[torch.float32])
    assert ours.Bernoulli(probs=torch.tensor([0.0, 1.0])).log_prob(torch.tensor([1.0, 0.0])).isfinite().all()
    inf = ours.Bernoulli(logits=torch.tensor([-torch.inf, torch.inf])).log_prob(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(inf, torch.zeros(2))
