"""torch.compile: one graph, fresh noise, no graph for a new number."""

from __future__ import annotations

import pytest
import torch

import examples
import fastvae
from fastvae.ops import OPERATORS

pytestmark = pytest.mark.usefixtures("backend")


def randn(*shape):
    return torch.randn(shape)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def train_step(mean, log_var, x, weight, beta=0.5, seed=None):
    """Every public function, with the keywords that take another path."""
    z, kl = fastvae.rsample_kl(mean, log_var, seed=seed)
    samples = fastvae.rsample(mean, log_var, seed=seed, num_samples=2, clamp=(-3.0, 3.0))
    log_px = fastvae.bernoulli_log_prob(x, z * 2)
    log_px = log_px + fastvae.gaussian_log_prob(
        x, samples.mean(0), weight[0], scale_as="softplus", scale_eps=1e-4, weight=weight
    )
    log_px = log_px + fastvae.gaussian_log_prob(x, z, "optimal")
    kl = kl + fastvae.kl_normal(mean, log_var, weight, log_var, free_bits=0.1, free_bits_over="latent")
    kl = kl + fastvae.kl_standard_normal(mean, log_var, mask=x > 0.5, free_bits=0.1, free_bits_over="sample")
    return fastvae.elbo(log_px, kl, beta)


def gradients(step, *operands, **keywords):
    leaves = [o.detach().clone().requires_grad_() for o in operands]
    terms = step(*leaves, **keywords)
    return [*(t.detach() for t in terms), *torch.autograd.grad(terms.loss, leaves)]


def step_operands(batch=4):
    return randn(batch, 6), randn(batch, 6), torch.rand(batch, 6), torch.rand(batch, 6)


# Inductor once, as users have it; the tracing alone elsewhere.
@pytest.mark.interpreted(where=lambda dynamic: not dynamic)
@pytest.mark.parametrize(("compiler", "dynamic"), [("inductor", None), ("aot_eager", True)])
def test_a_training_step_compiles_into_one_graph(compiler, dynamic):
    operands = step_operands()
    compiled = torch.compile(train_step, fullgraph=True, backend=compiler, dynamic=dynamic)
    wanted = gradients(train_step, *operands, seed=7)
    for value, expected in zip(gradients(compiled, *operands, seed=7), wanted, strict=True):
        # Inductor's own arithmetic between the operators rounds otherwise.
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiler", ["inductor", "aot_eager_decomp_partition"])
def test_two_equal_calls_in_a_training_graph_draw_different_noise(compiler):
    """An operator that drew its own noise would be deduplicated by common-subexpression elimination."""

    def pair(mean, log_var):
        return fastvae.rsample(mean, log_var), fastvae.rsample(mean, log_var), fastvae.rsample_kl(mean, log_var)[0]

    mean, log_var = randn(8, 16).requires_grad_(), randn(8, 16).requires_grad_()
    a, b, c = torch.compile(pair, fullgraph=True, backend=compiler)(mean, log_var)
    assert not (a == b).any()
    assert not (a == c).any()
    assert not (b == c).any()
    # Each backward redraws the noise of its own forward.
    for z in (a, b, c):
        (gradient,) = torch.autograd.grad(z.sum(), log_var, retain_graph=True)
        torch.testing.assert_close(gradient, (z - mean).detach() / 2, rtol=1e-5, atol=1e-5)


def test_equal_calls_of_one_seed_draw_equal_noise_when_compiled():
    mean, log_var = randn(8, 16).requires_grad_(), randn(8, 16).requires_grad_()
    sample = torch.compile(fastvae.rsample, fullgraph=True, backend="aot_eager_decomp_partition")
    assert torch.equal(sample(mean, log_var, seed=3), fastvae.rsample(mean, log_var, seed=3))
    assert not torch.equal(sample(mean, log_var), sample(mean, log_var))


def count_graphs(function):
    counted = []

    def compiler(graph, example_inputs):
        counted.append(graph)
        return graph

    return torch.compile(function, fullgraph=True, backend=compiler), counted


@pytest.mark.not_interpreted
def test_annealing_beta_recompiles_nothing():
    log_px, kl = randn(8).requires_grad_(), randn(8)
    step, graphs = count_graphs(lambda beta: fastvae.elbo(log_px, kl, beta).loss)
    for k in range(8):
        assert step(torch.tensor(k / 10)).item() == pytest.approx((k / 10 * kl - log_px).mean().item(), rel=1e-5)
    assert len(graphs) == 1
    step, graphs = count_graphs(lambda beta: fastvae.elbo(log_px, kl, beta).loss)
    for k in range(8):
        assert step(k / 10 + 0.01).item() == pytest.approx(((k / 10 + 0.01) * kl - log_px).mean().item(), rel=1e-5)
    # The second value makes dynamo take floats as inputs; no later one is a new graph.
    assert len(graphs) <= 2


@pytest.mark.not_interpreted
def test_batch_sizes_share_a_dynamic_graph():
    step, graphs = count_graphs(lambda *operands: train_step(*operands).loss)
    for batch in (4, 5, 9, 17):
        step(*step_operands(batch))
    assert len(graphs) <= 2


def test_one_tensor_in_two_places_compiles():
    mean, log_var = randn(4, 6).requires_grad_(), randn(4, 6).requires_grad_()

    def twice(mean, log_var):
        return fastvae.kl_normal(mean, log_var, mean * 2, log_var, weight=log_var.detach().abs())

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")(mean, log_var)
    torch.testing.assert_close(compiled, twice(mean, log_var))
    for a, b in zip(
        torch.autograd.grad(compiled.sum(), (mean, log_var)),
        torch.autograd.grad(twice(mean, log_var).sum(), (mean, log_var)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_errors_are_raised_from_compiled_code_too():
    compiled = torch.compile(fastvae.kl_standard_normal, backend="aot_eager")
    with pytest.raises(ValueError, match="event_ndim must be in"):
        compiled(randn(4, 6), randn(4, 6), event_ndim=5)


def test_meta_tensors_have_shapes():
    mean = torch.empty(4, 6, device="meta", dtype=torch.bfloat16, requires_grad=True)
    z, kl = fastvae.rsample_kl(mean, mean, num_samples=3)
    assert (z.shape, z.dtype, kl.shape, kl.dtype) == ((3, 4, 6), torch.bfloat16, (4,), torch.float32)
    fastvae.elbo(fastvae.bernoulli_log_prob(mean, z, event_ndim=1), kl).loss.backward()
    assert mean.grad.shape == mean.shape


# --- torch.export ---


class Exported(torch.nn.Module):
    def __init__(self, name, **keywords):
        super().__init__()
        self.name, self.keywords = name, keywords

    def forward(self, *operands):
        example = examples.EXAMPLES[self.name]
        return example.call(*operands, **{**example.keywords, **self.keywords})


EXPORTED = [(name, {}) for name in OPERATORS]
EXPORTED += [(name, {"reduction": reduction}) for name in examples.LIKELIHOODS for reduction in ("sum", "mean")]


@pytest.mark.not_interpreted
@pytest.mark.parametrize(("name", "keywords"), EXPORTED)
def test_every_function_exports_with_a_dynamic_batch(name, keywords, backend, tmp_path):
    examples.skip_without_kernel(name, backend)
    module, operands = Exported(name, **keywords), examples.operands(OPERATORS[name], (4, 6))
    batch = torch.export.Dim("batch")
    shapes = [{0: batch} if operand.dim() else None for operand in operands]
    torch.export.save(
        torch.export.export(module, tuple(operands), dynamic_shapes=(tuple(shapes),)), tmp_path / "exported.pt2"
    )
    loaded = torch.export.load(tmp_path / "exported.pt2").module()
    for rows in (4, 9):
        operands = examples.operands(OPERATORS[name], (rows, 6))
        torch.testing.assert_close(loaded(*operands), module(*operands))


def test_the_terms_of_an_elbo_are_kept_where_torch_keeps_tensors(tmp_path):
    class Step(torch.nn.Module):
        def forward(self, log_px, kl):
            return fastvae.elbo(log_px, kl)

    operands = randn(4), randn(4)
    torch.export.save(torch.export.export(Step(), operands), tmp_path / "step.pt2")
    terms = torch.export.load(tmp_path / "step.pt2").module()(*operands)
    assert isinstance(terms, fastvae.ElboTerms)
    torch.save(terms, tmp_path / "terms.pt")
    loaded = torch.load(tmp_path / "terms.pt", weights_only=True)
    assert isinstance(loaded, fastvae.ElboTerms)
    assert torch.equal(loaded.loss, terms.loss)
