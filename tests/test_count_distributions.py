"""Distributions of counts against torch's own in float64."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as theirs

from fastvae import distributions as ours

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.not_interpreted]

CLOSE = {"rtol": 2e-6, "atol": 2e-6}
PROBS = torch.tensor([[0.2, 0.9, 1e-3], [0.5, 0.99, 0.1]])
TOTAL = torch.tensor([0.3, 2.0, 20.0])  # one for each feature
ZERO_LOGITS = torch.tensor([[-2.0, 0.0, 3.0]])
X = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])


def poisson(module, dtype=torch.float32):
    return module.Poisson(5 * PROBS.to(dtype))


def by_probs(module, dtype=torch.float32):
    return module.NegativeBinomial(TOTAL.to(dtype), PROBS.to(dtype))


def by_logits(module, dtype=torch.float32):
    return module.NegativeBinomial(TOTAL.to(dtype), logits=(3 * PROBS - 1).to(dtype))


def inflated(**keywords):
    return ours.ZeroInflatedNegativeBinomial(TOTAL, PROBS, zero_logits=ZERO_LOGITS, **keywords)


MADE = (poisson, by_probs, by_logits)


def mixture(counts, zero_logits, x):
    """log(sigmoid(a) [x = 0] + sigmoid(-a) p(x))"""
    share = zero_logits.double().sigmoid()
    return (share * (x == 0) + (1 - share) * counts.log_prob(x.double()).exp()).log()


@pytest.mark.parametrize("value", [X, X.int(), X.bfloat16()], ids=["float32", "int32", "bfloat16"])
@pytest.mark.parametrize("made", MADE)
def test_log_prob_is_torchs(made, value):
    q, wanted = made(ours), made(theirs, torch.float64).log_prob(X.double())
    result = q.log_prob(value)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), wanted, **CLOSE)
    torch.testing.assert_close(ours.Independent(q, 1).log_prob(value).double(), wanted.sum(-1), **CLOSE)


def test_log_prob_with_an_excess_of_zeros():
    wanted = mixture(by_probs(theirs, torch.float64), ZERO_LOGITS, X)
    torch.testing.assert_close(inflated().log_prob(X).double(), wanted, **CLOSE)
    torch.testing.assert_close(ours.Independent(inflated(), 2).log_prob(X.int()).double(), wanted.sum(), **CLOSE)
    by_logits = ours.ZeroInflatedNegativeBinomial(TOTAL, logits=torch.logit(PROBS, 1e-7), zero_logits=ZERO_LOGITS)
    torch.testing.assert_close(by_logits.log_prob(X).double(), wanted, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("with_zeros", [False, True])
def test_gradients_are_the_formulas(with_zeros):
    leaves = [t.clone().requires_grad_() for t in (TOTAL, 3 * PROBS - 1, ZERO_LOGITS)]
    total, logits, zero_logits = leaves
    wide = [t.detach().double().requires_grad_() for t in leaves]
    truth = theirs.NegativeBinomial(wide[0], logits=wide[1])
    if with_zeros:
        q = ours.ZeroInflatedNegativeBinomial(total, logits=logits, zero_logits=zero_logits)
        wanted = mixture(truth, wide[2], X)
    else:
        leaves, wide, q = leaves[:2], wide[:2], ours.NegativeBinomial(total, logits=logits)
        wanted = truth.log_prob(X.double())
    found = torch.autograd.grad(q.log_prob(X).sum(), leaves)
    for grad, truth_grad in zip(found, torch.autograd.grad(wanted.sum(), wide), strict=True):
        torch.testing.assert_close(grad.double(), truth_grad, rtol=1e-5, atol=1e-5)


def test_they_are_torchs():
    assert isinstance(poisson(ours), theirs.Poisson)
    assert isinstance(inflated(), ours.NegativeBinomial)
    assert isinstance(inflated(), theirs.NegativeBinomial)
    for q in (poisson(ours), by_probs(ours), by_logits(ours), inflated()):
        wide = q.expand((4, 2, 3))
        assert (type(wide), wide.batch_shape) == (type(q), (4, 2, 3))
        torch.testing.assert_close(wide.log_prob(X)[1], q.log_prob(X))


def test_samples_have_the_mean_and_variance_that_are_told():
    torch.manual_seed(0)
    q, count = inflated(), 20_000
    samples = q.sample((count,)).double()
    # Five standard errors; a variance's from the samples' own fourth moments.
    off = (samples.mean(0) - q.mean).abs()
    assert (off <= 5 * (q.variance / count).sqrt()).all()
    squares = (samples - q.mean) ** 2
    assert ((squares.mean(0) - q.variance).abs() <= 5 * squares.std(0) / count**0.5).all()
    assert q.sample().shape == q.batch_shape


def test_what_is_wrong_is_told():
    with pytest.raises(ValueError, match="one of probs and logits must be given, not both"):
        ours.ZeroInflatedNegativeBinomial(TOTAL, zero_logits=ZERO_LOGITS)
    with pytest.raises(ValueError, match="within the support"):
        inflated(validate_args=True).log_prob(-X)
    with pytest.raises(ValueError, match="Expected parameter rate"):
        ours.Poisson(-PROBS, validate_args=True)
    with pytest.raises(NotImplementedError, match="no mode"):
        _ = inflated().mode
    ours.Poisson(-PROBS)


def test_in_one_graph():
    def log_prob(x, total, logits, zero_logits):
        q = ours.ZeroInflatedNegativeBinomial(total, logits=logits, zero_logits=zero_logits)
        return ours.Independent(q, 1).log_prob(x) + ours.Independent(ours.Poisson(logits.exp()), 1).log_prob(x)

    operands = (X, TOTAL, 3 * PROBS - 1, ZERO_LOGITS)
    compiled = torch.compile(log_prob, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*operands), log_prob(*operands))
