"""Operators as torch sees them: opcheck, derivatives, torch.compile, torch.func, what autograd saves."""

from __future__ import annotations

import functools
import gc
import math
import weakref

import pytest
import torch
from torch.func import grad, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import fastvae
from fastvae.ops import OPERATORS

pytestmark = pytest.mark.usefixtures("backend")

OPS = torch.ops.fastvae
LOG_VAR = ("log_var", 0.0, -math.inf, math.inf)
SOFTPLUS = ("softplus", 1e-4, -4.0, 4.0)


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


def operator_cases():
    """(operator, arguments): layouts, broadcasting, dtypes and options that take another path."""
    seed, mask = torch.tensor(5), torch.rand(4, 1) > 0.5
    packed, half = randn(4, 12), randn(4, 6, dtype=torch.bfloat16)
    a, b = packed.chunk(2, 1)
    row, scalar = randn(6), torch.tensor(0.3)
    last = randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    double = randn(4, 6, dtype=torch.float64)
    bytes_, bits = torch.randint(0, 256, (4, 6), dtype=torch.uint8), torch.rand(4, 6) > 0.5
    return [
        (OPS.rsample, (a, b, seed, None, 0, *LOG_VAR)),
        (OPS.rsample, (half, row, seed, None, 3, *SOFTPLUS)),
        (OPS.rsample, (last, last, seed, None, 0, *LOG_VAR)),
        (OPS.rsample, (double, half, None, double, 0, *LOG_VAR)),
        (OPS.rsample, (randn(0, 3), randn(0, 3), seed, None, 0, *LOG_VAR)),
        (OPS.kl_standard_normal, (a, b, None, 1, 0.0, *LOG_VAR)),
        (OPS.kl_standard_normal, (half, row, mask, 1, 0.1, *SOFTPLUS)),
        (OPS.kl_standard_normal, (last, scalar, None, 3, 0.0, *LOG_VAR)),
        (OPS.kl_standard_normal, (double, a, randn(6), 0, 0.0, *LOG_VAR)),
        (OPS.kl_standard_normal, (randn(3, 0), randn(3, 0), None, 1, 0.0, *LOG_VAR)),
        (OPS.kl_normal, (a, b, half, row, None, 1, 0.0, *LOG_VAR)),
        (OPS.kl_normal, (double, scalar, row, scalar, mask, 2, 0.2, *SOFTPLUS)),
        (OPS.rsample_kl, (a, b, seed, None, 1, 0.0, *LOG_VAR)),
        (OPS.rsample_kl, (last, last, seed, None, 3, 0.1, *SOFTPLUS)),
        (OPS.rsample_kl, (half, half, None, a, 0, 0.0, *LOG_VAR)),
        (OPS.bernoulli_log_prob, (a, b, None, 1, 1.0)),
        (OPS.bernoulli_log_prob, (bytes_, half, mask, 1, 1 / 255)),
        (OPS.bernoulli_log_prob, (bits, row, None, 0, 1.0)),
        (OPS.gaussian_log_prob, (a, b, row, None, 1, 1.0, True, *LOG_VAR)),
        (OPS.gaussian_log_prob, (bytes_, half, scalar, mask, 2, 1 / 255, False, *SOFTPLUS)),
        (OPS.gaussian_log_prob, (last, last, randn(3, 1, 1), None, 3, 1.0, True, *LOG_VAR)),
        (OPS.elbo, (randn(3, 4), randn(4), None, 0.5, 2, True)),
        (OPS.elbo, (randn(3, 4), randn(4, dtype=torch.float64), scalar, 1.0, 2, False)),
        (OPS.elbo, (randn(4), half[:, 0], scalar, 1.0, 0, False)),
    ]


IDS = [f"{case[0]}".split(".")[-1] + f"-{i}" for i, case in enumerate(operator_cases())]


@pytest.fixture(params=range(len(IDS)), ids=IDS)
def case(request, backend):
    """Made anew: on the device of the backend."""
    return operator_cases()[request.param]


def backward_arguments(operator, arguments):
    """Arguments of the backward operator: dense, expanded and absent gradients, all and the first gradient wanted."""
    declared = next(o for o in OPERATORS.values() if o.forward.call is operator.default)
    outputs = operator(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    dense = [torch.randn_like(o) for o in outputs]
    expanded = [o.new_tensor(1.5).expand(o.shape) if i == 0 else None for i, o in enumerate(outputs)]
    possible = [t is not None and t.is_floating_point() for t in arguments[: len(declared.operands)]]
    first = [need and i == possible.index(True) for i, need in enumerate(possible)]
    return [(*dense, *arguments, possible), (*expanded, *arguments, possible), (*dense, *arguments, first)]


def test_opcheck(case):
    operator, arguments = case
    torch.library.opcheck(operator.default, arguments)
    backward = getattr(OPS, f"{operator.default.name().split('::')[1]}_backward").default
    for backward_args in backward_arguments(operator, arguments):
        torch.library.opcheck(backward, backward_args)


def test_opcheck_of_philox():
    torch.library.opcheck(OPS.philox.default, (torch.randint(0, 2**32, (3, 4)), torch.randint(0, 2**32, (2,))))


def test_inputs_are_not_written(case):
    operator, arguments = case
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    before = [(t.clone(), t._version) for t in tensors]
    operator(*arguments)
    for tensor, (value, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)
        assert tensor._version == version


# --- derivatives ---


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def derivative_cases():
    def positive(raw):
        return raw.exp() + 0.1

    mean, scale, other, weight = double(3, 2), double(3, 2), double(3, 2), torch.tensor([0.0, 1.5], dtype=torch.float64)
    row, beta = double(2), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    cases = {
        "rsample": (lambda m, s: fastvae.rsample(m, s, seed=3), (mean, scale)),
        "rsample of samples": (lambda m, s: fastvae.rsample(m, s, seed=3, num_samples=2, clamp=(-1, 1)), (mean, row)),
        "rsample of eps": (lambda m, s, e: fastvae.rsample(m, s, eps=e), (mean, row, other)),
        "kl_standard_normal": (fastvae.kl_standard_normal, (mean, scale)),
        "kl_standard_normal elementwise": (lambda m, s: fastvae.kl_standard_normal(m, s, event_ndim=0), (mean, scale)),
        "kl_normal": (fastvae.kl_normal, (mean, scale, other, row)),
        "rsample_kl": (lambda m, s: fastvae.rsample_kl(m, s, seed=1), (mean, scale)),
        "bernoulli_log_prob": (fastvae.bernoulli_log_prob, (mean, scale)),
        "bernoulli_log_prob of weights": (
            lambda x, a, w: fastvae.bernoulli_log_prob(x, a, weight=w),
            (mean, scale, row),
        ),
        "gaussian_log_prob": (fastvae.gaussian_log_prob, (mean, scale, row)),
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


@pytest.mark.parametrize("name", derivative_cases())
def test_first_and_second_derivatives(name):
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


# --- what is saved, and what the host is asked ---

CALLS = {
    "rsample": lambda m, s: fastvae.rsample(m, s),
    "rsample of samples": lambda m, s: fastvae.rsample(m, s, num_samples=3),
    "kl_standard_normal": fastvae.kl_standard_normal,
    "kl_normal": lambda m, s: fastvae.kl_normal(m, s, s, m),
    "rsample_kl": lambda m, s: fastvae.rsample_kl(m, s)[0],
    "bernoulli_log_prob": fastvae.bernoulli_log_prob,
    "gaussian_log_prob": lambda m, s: fastvae.gaussian_log_prob(m, s, 0.5),
    "elbo": lambda m, s: fastvae.elbo(m, s).loss,
}


@pytest.mark.parametrize("name", CALLS)
def test_saved_tensors_are_the_inputs_and_the_seed(name):
    operands = randn(64, 32).requires_grad_(), randn(64, 32).requires_grad_()
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        CALLS[name](*operands)
    inputs = {o.data_ptr() for o in operands}
    extra = [t for t in saved if t.data_ptr() not in inputs]
    # Beside the inputs: a seed, or a scale given as a number.
    assert all(t.numel() == 1 for t in extra)
    assert len(saved) <= 5


@pytest.mark.parametrize("name", CALLS)
def test_results_are_not_kept_alive(name):
    value = CALLS[name](randn(6, 5).requires_grad_(), randn(6, 5).requires_grad_())
    total, alive = value.sum(), weakref.ref(value)
    del value
    gc.collect()
    assert alive() is None
    total.backward()


class NeverAsksTheHost(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CALLS)
def test_the_host_is_never_asked(name):
    operands = randn(6, 5).requires_grad_(), randn(6, 5).requires_grad_()
    with NeverAsksTheHost() as mode:
        CALLS[name](*operands).sum().backward()
    assert mode.calls > 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_and_refuses_nothing(dtype):
    layer = torch.nn.Linear(8, 10)
    x = torch.rand(6, 5)
    with torch.autocast("cpu", dtype=dtype):
        mean, log_var = layer(torch.randn(6, 8)).chunk(2, 1)
        z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
        log_px = fastvae.bernoulli_log_prob(x, z) + fastvae.gaussian_log_prob(x, mean, torch.zeros(()))
        terms = fastvae.elbo(log_px, kl)
        weighted = fastvae.kl_standard_normal(mean, log_var, weight=torch.rand(5, requires_grad=True))
    assert (mean.dtype, z.dtype) == (dtype, dtype)
    assert {kl.dtype, log_px.dtype, terms.loss.dtype, weighted.dtype} == {torch.float32}
    outside = fastvae.rsample_kl(mean, log_var, seed=1)
    assert torch.equal(z, outside[0])
    assert torch.equal(kl, outside[1])
    (terms.loss + weighted.sum()).backward()
    assert layer.weight.grad.isfinite().all()


def test_activation_checkpointing_redraws_the_same_noise():
    mean, log_var = randn(6, 5).requires_grad_(), randn(6, 5).requires_grad_()

    def block(mean, log_var):
        z, kl = fastvae.rsample_kl(mean, log_var)
        return z.pow(3).sum() + kl.sum()

    torch.manual_seed(3)
    wanted = torch.autograd.grad(block(mean, log_var), (mean, log_var))
    torch.manual_seed(3)
    value = checkpoint(block, mean, log_var, use_reentrant=False)
    torch.manual_seed(99)
    gradients = torch.autograd.grad(value, (mean, log_var))
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted, strict=True))


# --- torch.compile ---


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


# --- torch.func ---

BATCH = 4
FUNCTIONS = {
    "kl_standard_normal": lambda m, s, x: fastvae.kl_standard_normal(m, s, event_ndim=1),
    "kl_normal": lambda m, s, x: fastvae.kl_normal(m, s, x, s[..., :1], event_ndim=1),
    "rsample": lambda m, s, x: fastvae.rsample(m, s, seed=3),
    "rsample_kl": lambda m, s, x: fastvae.rsample_kl(m, s, seed=3, event_ndim=1)[1],
    "rsample_kl, z": lambda m, s, x: fastvae.rsample_kl(m, s, seed=3, event_ndim=1)[0],
    "rsample of eps": lambda m, s, x: fastvae.rsample(m, s, eps=x),
    "bernoulli_log_prob": lambda m, s, x: fastvae.bernoulli_log_prob(x, m + s, event_ndim=1),
    "gaussian_log_prob": lambda m, s, x: fastvae.gaussian_log_prob(x, m, s[..., :1], event_ndim=1),
    "gaussian_log_prob of weights": lambda m, s, x: fastvae.gaussian_log_prob(x, m, 0.3, event_ndim=1, weight=s),
    "gaussian_log_prob, optimal": lambda m, s, x: fastvae.gaussian_log_prob(x, m + s, "optimal", event_ndim=1),
    "elbo": lambda m, s, x: fastvae.elbo(m * s, x, 2.0).loss,
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
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


def test_func_grad_is_autograd(function, operands):
    leaves = [o.clone().requires_grad_() for o in operands]
    wanted = torch.autograd.grad(function(*leaves).sum(), leaves, allow_unused=True, materialize_grads=True)
    assert_all_close(grad(summed(function), (0, 1, 2))(*operands), wanted)


def test_vmap_is_a_loop(function, operands):
    wanted = torch.stack([function(*(o[i] for o in operands)) for i in range(BATCH)])
    torch.testing.assert_close(vmap(function)(*operands), wanted)
    mean, log_var, x = operands
    wanted = torch.stack([function(mean[i], log_var[0], x[1]) for i in range(BATCH)])
    torch.testing.assert_close(vmap(lambda m: function(m, log_var[0], x[1]), in_dims=1)(mean.t()), wanted)


def test_gradients_per_sample(function, operands):
    mean, log_var, x = operands
    gradient = grad(summed(function), (0, 1, 2))
    wanted = stacked(gradient(mean[i], log_var[i], x[0]) for i in range(BATCH))
    assert_all_close(vmap(gradient, in_dims=(0, 0, None))(mean, log_var, x[0]), wanted)


def test_the_gradient_of_a_vmap(function, operands):
    gradient = grad(summed(function), (0, 1, 2))
    wanted = stacked(gradient(*(o[i] for o in operands)) for i in range(BATCH))
    assert_all_close(grad(lambda *o: vmap(function)(*o).sum(), (0, 1, 2))(*operands), wanted)


def test_jacobians_and_hessians(function, operands):
    mean, log_var, x = operands
    value = function(*operands)
    jacobian = jacrev(function)(*operands)
    assert jacobian.shape == (*value.shape, *mean.shape)
    wanted = torch.autograd.functional.jacobian(lambda m: function(m, log_var, x), mean)
    torch.testing.assert_close(jacobian, wanted)
    hessian = jacrev(jacrev(summed(function)))(*operands)
    wanted = torch.autograd.functional.hessian(lambda m: summed(function)(m, log_var, x), mean)
    torch.testing.assert_close(hessian, wanted)


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


def test_vmap_over_seeds():
    seeds = torch.tensor([1, 2, 3])
    mean = torch.zeros(50)
    z = vmap(lambda seed: fastvae.rsample(mean, mean, seed=seed))(seeds)
    assert all(torch.equal(z[i], fastvae.rsample(mean, mean, seed=int(s))) for i, s in enumerate(seeds))


def test_operators_are_registered_under_their_names():
    for operator in OPERATORS.values():
        assert operator.forward.call is getattr(OPS, operator.name).default
        assert "Tensor" in str(operator.backward.call._schema)
