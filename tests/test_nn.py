"""Modules are the functions with their keywords; what the functions compute is tested elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import fastvae
from fastvae import nn

SCALE = {"scale_as": "softplus", "scale_eps": 1e-3, "clamp": (-4.0, 2.0)}


def moments(*shape):
    return torch.randn(shape), torch.randn(shape)


CASES = {
    "sample": (nn.Reparameterize(**SCALE, num_samples=3), fastvae.rsample, moments(4, 5), {"seed": 3}),
    "KL": (nn.KLDivergence(free_bits=0.5), fastvae.kl_standard_normal, moments(4, 5), {}),
    "KL of two": (nn.KLDivergence(clamp=(-1.0, 1.0)), fastvae.kl_normal, (*moments(4, 5), *moments(4, 5)), {}),
    "Bernoulli": (nn.BernoulliLogProb(event_ndim=1), fastvae.bernoulli_log_prob, moments(4, 5), {}),
    "Gaussian": (nn.GaussianLogProb(**SCALE), fastvae.gaussian_log_prob, (*moments(4, 5), torch.randn(4, 5)), {}),
    "ELBO": (nn.ELBOLoss(beta=0.5, reduction="sum"), lambda *a, **k: fastvae.elbo(*a, **k).loss, moments(4), {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_module_is_its_function(case, compiled):
    module, function, operands, noise = CASES[case]
    call = torch.compile(module, fullgraph=True, backend="aot_eager") if compiled else module
    torch.testing.assert_close(call(*operands, **noise), function(*operands, **module.keywords(), **noise))


def test_what_forward_is_given_counts_first_and_attributes_can_be_set():
    log_px, kl = torch.randn(4), torch.rand(4)
    loss = nn.ELBOLoss(beta=0.5)
    assert loss(log_px, kl, beta=2.0) == fastvae.elbo(log_px, kl, 2.0).loss
    loss.beta = 0.25
    assert loss(log_px, kl) == fastvae.elbo(log_px, kl, 0.25).loss
    torch.testing.assert_close(loss.terms(log_px, kl).elbo, (log_px - kl).mean())


def test_annealing_compiles_no_new_graph():
    counter = CompileCounterWithBackend("aot_eager")
    loss = nn.ELBOLoss(beta=torch.tensor(0.0))
    step, operands = torch.compile(loss, fullgraph=True, backend=counter), (torch.randn(4), torch.rand(4))
    for i in range(1, 5):
        loss.beta.fill_(0.1 * i)
        torch.testing.assert_close(step(*operands), fastvae.elbo(*operands, 0.1 * i).loss)
    assert counter.frame_count == 1


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_head_is_a_linear_layer_and_both_results(compiled):
    head = nn.GaussianHead(6, 5, clamp=(-3.0, 3.0), dtype=torch.float64)
    call = torch.compile(head, fullgraph=True, backend="aot_eager") if compiled else head
    h = torch.randn(4, 6, dtype=torch.float64)
    z, kl = call(h, seed=3)
    mean, log_var = torch.nn.functional.linear(h, head.linear.weight, head.linear.bias).split(5, dim=1)
    wanted = fastvae.rsample_kl(mean, log_var, seed=3, clamp=(-3.0, 3.0))
    torch.testing.assert_close((z, kl), wanted)
    (z.sum() + kl.sum()).backward()
    found = head.linear.weight.grad.clone()
    torch.testing.assert_close(found, torch.autograd.grad(sum(t.sum() for t in wanted), head.linear.weight)[0])
    assert set(head.state_dict()) == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_layer_with_its_likelihood_is_called_with_x(compiled):
    log_var = torch.nn.Parameter(torch.randn(5))
    layers = (
        (nn.LinearBernoulli(6, 5, bias=False, reduction="mean"), fastvae.bernoulli_log_prob, ()),
        (nn.LinearMultinomial(6, 5, reduction="mean"), fastvae.multinomial_log_prob, ()),
        (nn.LinearGaussian(6, 5, log_var=log_var), fastvae.gaussian_log_prob, (log_var,)),
    )
    x, h = torch.rand(4, 5), torch.randn(3, 4, 6)
    for layer, likelihood, scale in layers:
        call = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled else layer
        keywords = {} if scale else {"reduction": "mean"}
        torch.testing.assert_close(call(x, h), likelihood(x, layer.linear(h), *scale, **keywords))
        call(x, h).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
    assert set(layer.state_dict()) == {"linear.weight", "linear.bias", "log_var"}


def test_modules_say_what_they_were_given():
    assert repr(nn.KLDivergence(free_bits=0.5, free_bits_over="latent")) == (
        "KLDivergence(free_bits=0.5, free_bits_over='latent')"
    )
    assert "clamp=(-3.0, 3.0)" in repr(nn.GaussianHead(6, 5, clamp=(-3.0, 3.0)))
    with pytest.raises(TypeError, match="free_bit is no keyword of kl_standard_normal, which has event_ndim, "):
        nn.KLDivergence(free_bit=0.5)
