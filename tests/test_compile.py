"""torch.compile: one graph, fresh noise, no graph for a new number."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import examples
import fastvae
from fastvae.backends import compiled
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


REFUSED = {
    "an unknown reduction": lambda a, b: fastvae.bernoulli_log_prob(a, b, reduction="average"),
    "no tensor": lambda a, b: fastvae.rsample(a, 1.0),
    "shapes that do not broadcast": lambda a, b: fastvae.kl_standard_normal(a, b[:, :4]),
    "a keyword of another type": lambda a, b: fastvae.rsample_kl(a, b, clamp=1.0),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_in_eager_mode_is_refused_alike_when_compiled(call):
    operands = randn(4, 6), randn(4, 6)
    with pytest.raises((TypeError, ValueError)) as eager:
        call(*operands)
    with pytest.raises(type(eager.value), match=re.escape(str(eager.value))):
        torch.compile(call, backend="eager")(*operands)


def test_meta_tensors_have_shapes():
    mean = torch.empty(4, 6, device="meta", dtype=torch.bfloat16, requires_grad=True)
    z, kl = fastvae.rsample_kl(mean, mean, num_samples=3)
    assert (z.shape, z.dtype, kl.shape, kl.dtype) == ((3, 4, 6), torch.bfloat16, (4,), torch.float32)
    fastvae.elbo(fastvae.bernoulli_log_prob(mean, z, event_ndim=1), kl).loss.backward()
    assert mean.grad.shape == mean.shape


# --- numbers that vary ---

VARYING = {
    "free_bits of elements": lambda m, s, v: fastvae.rsample_kl(m, s, free_bits=v, seed=3)[1],
    "free_bits of latents": lambda m, s, v: fastvae.kl_standard_normal(m, s, free_bits=v, free_bits_over="latent"),
    "free_bits of samples": lambda m, s, v: fastvae.rsample_kl(m, s, free_bits=v, free_bits_over="sample", seed=3)[1],
    "free_bits of the batch": lambda m, s, v: fastvae.kl_normal(m, s, m * 2, s, free_bits=v, free_bits_over="batch"),
    "clamp of log_var": lambda m, s, v: fastvae.rsample(m, s, clamp=(-v, v), seed=3),
    "clamp of var": lambda m, s, v: fastvae.gaussian_log_prob(m, s, s.exp(), scale_as="var", clamp=(-v, v)),
    "clamp of softplus": lambda m, s, v: fastvae.kl_standard_normal(m, s, scale_as="softplus", clamp=(-v, v)),
    "clamp of the optimum": lambda m, s, v: fastvae.gaussian_log_prob(m, s, "optimal", clamp=(-v, v)),
    "scale_eps": lambda m, s, v: fastvae.kl_standard_normal(m, s, scale_as="softplus", scale_eps=v),
    "x_scale": lambda m, s, v: fastvae.bernoulli_log_prob(m.sigmoid(), s, x_scale=v),
    "log_var": lambda m, s, v: fastvae.gaussian_log_prob(m, s, v),
    "inverse_dispersion": lambda m, s, v: fastvae.negative_binomial_log_prob(m.exp(), s, v, mean_as="log_mean"),
    "beta": lambda m, s, v: fastvae.elbo(m.sum(1), s.sum(1), beta=v).loss,
}


@pytest.mark.not_interpreted
@pytest.mark.parametrize("function", VARYING.values(), ids=VARYING)
def test_a_number_that_varies_compiles_no_further_graph(function):
    operands = randn(8, 6).requires_grad_(), randn(8, 6).requires_grad_()
    compiled, graphs = count_graphs(lambda v: function(*operands, v).sum())
    for value in torch.linspace(0.1, 0.9, 10).tolist():
        total, wanted = compiled(value), function(*operands, value).sum()
        torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            torch.autograd.grad(total, operands, allow_unused=True),
            torch.autograd.grad(wanted, operands, allow_unused=True),
            rtol=1e-5,
            atol=1e-5,
        )
    assert len(graphs) <= 2  # the second value makes dynamo take floats as inputs


@pytest.mark.not_interpreted
@pytest.mark.parametrize("function", VARYING.values(), ids=VARYING)
def test_nor_where_autograd_is_traced(function):
    operands = randn(8, 6).requires_grad_(), randn(8, 6).requires_grad_()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda v: function(*operands, v).sum(), backend=counter, fullgraph=True)
    for value in torch.linspace(0.1, 0.9, 5).tolist():
        compiled(value).backward()
    assert counter.frame_count <= 2


@pytest.mark.not_interpreted
def test_a_number_of_samples_that_varies_compiles_no_further_graph():
    mean = randn(4, 6)
    compiled, graphs = count_graphs(lambda k: fastvae.rsample(mean, mean, num_samples=k, seed=3))
    for k in range(2, 12):
        assert compiled(k).shape == (k, 4, 6)
    assert len(graphs) <= 2


@pytest.mark.parametrize("over", ["element", "latent", "sample", "batch"])
def test_free_bits_may_be_a_tensor(over):
    mean, log_var = randn(8, 6).requires_grad_(), randn(8, 6).requires_grad_()
    for call in (fastvae.kl_standard_normal, lambda *a, **k: fastvae.rsample_kl(*a, **k)[1]):
        given, wanted = (call(mean, log_var, free_bits=f, free_bits_over=over) for f in (torch.tensor(0.4), 0.4))
        torch.testing.assert_close(given, wanted)
        torch.testing.assert_close(
            torch.autograd.grad(given.sum(), (mean, log_var)), torch.autograd.grad(wanted.sum(), (mean, log_var))
        )


# --- what is kept for backward ---


@pytest.mark.not_interpreted
@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_noise_is_the_same_in_backward_at_every_memory_budget(budget):
    """The cheap seed was drawn again there."""

    def step(mean, log_var, weight):
        z, kl = fastvae.rsample_kl(mean, log_var)
        other = fastvae.rsample(mean.sin(), log_var.cos())
        hidden = torch.relu(z @ weight) + torch.tanh(other @ weight)
        return hidden.sin().sum() + kl.sum(), z, other

    leaves = [t.requires_grad_() for t in (randn(64, 16), randn(64, 16), randn(16, 128))]
    mean, log_var, weight = leaves
    with torch._functorch.config.patch(activation_memory_budget=budget):
        loss, z, other = torch.compile(step, fullgraph=True)(*leaves)
        grads = torch.autograd.grad(loss, leaves)
    eps = ((z - mean) / (log_var / 2).exp()).detach()
    eps_other = ((other - mean.sin()) / (log_var.cos() / 2).exp()).detach()
    z, other = mean + (log_var / 2).exp() * eps, mean.sin() + (log_var.cos() / 2).exp() * eps_other
    kl = (mean**2 + log_var.exp() - 1 - log_var).sum() / 2
    wanted = (torch.relu(z @ weight) + torch.tanh(other @ weight)).sin().sum() + kl
    for grad, truth in zip(grads, torch.autograd.grad(wanted, leaves), strict=True):
        assert (grad - truth).norm() <= 1e-5 * truth.norm()


def autoencoder(x, encoder, decoder, eps=None):
    """z, and of each row what an ELBO is made of."""
    mean, log_var = (torch.tanh(x) @ encoder).chunk(2, -1)
    z, kl = fastvae.rsample_kl(mean, log_var, eps=eps)
    return z, kl - fastvae.bernoulli_log_prob(x, torch.tanh(z) @ decoder)


def noise_of(z, x, encoder):
    mean, log_var = (torch.tanh(x) @ encoder).chunk(2, -1)
    return ((z - mean) / (log_var / 2).exp()).detach()


# What torch.compile is given, None being eager mode, and the memory budget.
@pytest.mark.not_interpreted
@pytest.mark.parametrize(
    ("compiler", "budget"), [(None, 1.0), ("aot_eager", 1.0), ("inductor", 1.0), ("inductor", 0.5), ("inductor", 0.1)]
)
def test_noise_is_the_same_where_a_checkpointed_region_is_computed_again(compiler, budget):
    """The region marked the seed as something to draw again."""

    def step(x, encoder, decoder):
        regions = [checkpoint(autoencoder, x, encoder, decoder, use_reentrant=False) for _ in range(2)]
        return sum((z.sin() * 3).sum() + rows.sum() for z, rows in regions), *(z for z, _ in regions)

    leaves = [t.requires_grad_() for t in (torch.rand(32, 20), randn(20, 12), randn(6, 20))]
    with torch._functorch.config.patch(activation_memory_budget=budget):
        function = step if compiler is None else torch.compile(step, fullgraph=True, backend=compiler)
        loss, *samples = function(*leaves)
        randn(3)  # the generator has moved on
        grads = torch.autograd.grad(loss, leaves)
    assert not torch.equal(*samples)
    regions = [autoencoder(*leaves, eps=noise_of(z, *leaves[:2])) for z in samples]
    wanted = torch.autograd.grad(sum((z.sin() * 3).sum() + rows.sum() for z, rows in regions), leaves)
    for grad, truth in zip(grads, wanted, strict=True):
        assert (grad - truth).norm() <= 1e-5 * truth.norm()


# --- formula or kernel ---


def test_formula_and_kernel_are_the_same_function():
    operands = step_operands()
    wanted = gradients(train_step, *operands, seed=7)
    for choice in ("formula", "kernel"):
        with compiled.to(choice):
            step = torch.compile(train_step, fullgraph=True, backend="aot_eager")
            given = gradients(step, *operands, seed=7)
        for value, expected in zip(given, wanted, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def guards_of(function, *operands):
    torch.compile(function, fullgraph=True, backend="eager")(*operands)
    (entry,) = torch._dynamo.eval_frame._debug_get_cache_entry_list(function.__code__)
    return str(entry.guard_manager).count("+- ")


def naive_step(mean, log_var, x):
    std = torch.exp(0.5 * log_var)
    kl = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)
    z = mean + std * torch.randn_like(std)
    return F.binary_cross_entropy_with_logits(z, x, reduction="sum") / len(x) + kl.mean()


def fused_step(mean, log_var, x):
    z, kl = fastvae.rsample_kl(mean, log_var)
    return fastvae.elbo(fastvae.bernoulli_log_prob(x, z), kl).loss


@pytest.mark.not_interpreted
def test_a_compiled_step_is_looked_up_like_a_naive_one():
    operands = randn(4, 6), randn(4, 6), torch.rand(4, 6)
    naive, fused = (guards_of(step, *operands) for step in (naive_step, fused_step))
    print(f"\nguards: naive {naive}, fastvae {fused}")
    # 67 more; where everything that the functions check was guarded, 255.
    assert fused <= naive + 80


def operators_in(function, *operands):
    """Names of this package's operators that are left in the compiler's graphs."""
    names = set()

    def collect(graph, example_inputs):
        names.update(str(n.target) for n in graph.graph.nodes if n.op == "call_function" and "fastvae" in str(n.target))
        return graph

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=collect, bw_compiler=collect)
    torch.compile(function, fullgraph=True, backend=backend)(*operands)
    return {name.removeprefix("fastvae.").removesuffix(".default") for name in names}


def test_the_choice_is_made_anew_where_it_changes():
    x, logits = torch.rand(4, 6), randn(4, 6)
    with compiled.to("formula"):
        assert operators_in(fastvae.bernoulli_log_prob, x, logits) == set()
    with compiled.to("kernel"):
        assert operators_in(fastvae.bernoulli_log_prob, x, logits) == {"bernoulli_log_prob"}


def test_a_long_formula_is_never_the_compilers_on_a_cpu():
    assert compiled.choose(OPERATORS["bernoulli_log_prob"], 24, "cpu") == "formula"
    assert compiled.choose(OPERATORS["negative_binomial_log_prob"], 24, "cpu") == "kernel"


def test_an_unknown_choice_is_an_error():
    with pytest.raises(ValueError, match="'formula' or 'kernel'"), compiled.to("fused"):
        pass


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
