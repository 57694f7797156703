"""Memory: sizes that divide nothing, strides of every kind, memory that nobody wrote, threads."""

from __future__ import annotations

import pytest
import torch

import examples
import fastvae
from fastvae.ops import Likelihood

pytestmark = pytest.mark.usefixtures("backend")

# Around the widths of vectors (4 to 16), the tiles and the chunks of a row.
WIDTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 255, 257, 511, 513, 1023, 1025, 4097, 16385, 70001)


# Those of them that take another path in Triton.
FEW_WIDTHS = {torch.float32: (1, 5, 17, 65, 257, 1025, 4097), torch.bfloat16: (1, 17, 1025)}


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float64])
def dtype(request):
    return request.param


@pytest.fixture
def poisoned():
    """torch.empty holds NaN, so that an element nobody writes is seen."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(100).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def kl_truth(mean, log_var):
    mean, log_var = mean.double(), log_var.double()
    return (mean**2 + log_var.exp() - 1 - log_var) / 2


def likelihood_truth(likelihood, operands):
    """Elementwise: its formula in float64, which the tests of accuracy hold against mpmath."""
    constants = {name: examples.CONSTANTS[name] for name in likelihood.formula.constants}
    return likelihood.formula.value(*(o.double() for o in operands), **constants)


def likelihood_operands(likelihood, shape, dtype):
    """x in float32, parameters in dtype with gradients."""
    x, *parameters = examples.operands(likelihood, shape)
    return [x, *(p.to(dtype).requires_grad_() for p in parameters)]


def check(value, truth, operands, tolerance):
    """Value and gradients against float64 autograd, with a cotangent that is different for each row."""
    torch.testing.assert_close(value.double(), truth, rtol=1e-6, atol=1e-6)
    cotangent = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=torch.float64)[: value.numel()].reshape(
        value.shape
    )
    grads = torch.autograd.grad((value * cotangent).sum(), operands, retain_graph=True)
    for grad, wanted in zip(grads, torch.autograd.grad((truth * cotangent).sum(), operands), strict=True):
        torch.testing.assert_close(grad, wanted, rtol=tolerance, atol=tolerance)


# Relative to the operands' dtype: one rounding of a gradient of order 1.
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float64: 1e-12}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.interpreted(where=lambda width, dtype: width in FEW_WIDTHS.get(dtype, ()))
@pytest.mark.parametrize("width", WIDTHS)
def test_odd_sizes(width, dtype, backend):
    slow = backend == "triton" and not torch.cuda.is_available()
    for rows in (3,) if slow and width > 1000 else (1, 2, 3, 7) if width < 5000 else (1, 2):
        mean, log_var = (torch.randn(rows, width).to(dtype).requires_grad_() for _ in range(2))
        tolerance = TOLERANCE[dtype]
        z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
        assert not z.isnan().any()
        # Sums of terms of order 1, relative 1e-6.
        check(kl, kl_truth(mean, log_var).sum(1), (mean, log_var), tolerance)
        check(fastvae.kl_standard_normal(mean, log_var), kl_truth(mean, log_var).sum(1), (mean, log_var), tolerance)
        for likelihood in examples.served(backend, Likelihood):
            operands = likelihood_operands(likelihood, (rows, width), dtype)
            truth = likelihood_truth(likelihood, operands).sum(1)
            check(examples.EXAMPLES[likelihood.name].call(*operands), truth, operands[1:], tolerance * 10)
        grads = torch.autograd.grad(z.sum(), (mean, log_var))
        assert torch.equal(grads[0], torch.ones_like(mean))
        eps = (z - mean).double() / (log_var.double() / 2).exp()
        torch.testing.assert_close(
            grads[1].double(), (z - mean).double() / 2, rtol=0, atol=(eps.abs().max() + 10).item() * tolerance
        )


@pytest.mark.usefixtures("poisoned")
@pytest.mark.interpreted(where=lambda width, dtype: width in FEW_WIDTHS.get(dtype, ()))
@pytest.mark.parametrize("width", WIDTHS[:14])
def test_odd_sizes_elementwise(width, dtype, backend):
    mean, log_var = (torch.randn(3, width).to(dtype).requires_grad_() for _ in range(2))
    x, tolerance = torch.rand(3, width), TOLERANCE[dtype] * 10
    check(fastvae.kl_standard_normal(mean, log_var, event_ndim=0), kl_truth(mean, log_var), (mean, log_var), tolerance)
    check(
        fastvae.kl_normal(mean, log_var, x, torch.zeros(()), event_ndim=0),
        kl_truth(mean - x, log_var),
        (mean, log_var),
        tolerance,
    )
    for likelihood in examples.served(backend, Likelihood):
        operands = likelihood_operands(likelihood, (3, width), dtype)
        value = examples.EXAMPLES[likelihood.name].call(*operands, event_ndim=0)
        check(value, likelihood_truth(likelihood, operands), operands[1:], tolerance)
    terms = fastvae.elbo(mean, log_var, 0.5, reduction="none")
    assert not any(term.isnan().any() for term in terms)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 4), (0,), (1, 1), ()])
def test_empty_and_single(shape, dtype):
    a, b, c, d = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(4))
    rows, arithmetic = shape[:1], torch.float64 if dtype == torch.float64 else torch.float32
    results = {
        "z": (fastvae.rsample(a, b, seed=1), shape, dtype, (a, b)),
        "samples": (fastvae.rsample(a, b, seed=1, num_samples=2), (2, *shape), dtype, (a, b)),
        "kl": (fastvae.kl_standard_normal(a, b), rows, arithmetic, (a, b)),
        "kl of both": (fastvae.rsample_kl(a, b, seed=1)[1], rows, arithmetic, (a, b)),
        "kl pair": (fastvae.kl_normal(a, b, c, d), rows, arithmetic, (a, b, c, d)),
        "bernoulli": (fastvae.bernoulli_log_prob(a, b), rows, arithmetic, (a, b)),
        "gaussian": (fastvae.gaussian_log_prob(a, b, c), rows, arithmetic, (a, b, c)),
        "shared scale": (fastvae.gaussian_log_prob(a, b, d.sum()), rows, arithmetic, (a, b, d)),
        "loss": (fastvae.elbo(a, b).loss, (), arithmetic, (a, b)),
        "losses": (fastvae.elbo(a, b, reduction="none").loss, shape, arithmetic, (a, b)),
    }
    for name, (value, wanted_shape, wanted_dtype, operands) in results.items():
        assert (value.shape, value.dtype) == (wanted_shape, wanted_dtype), name
        assert not value.isnan().any(), name
        if 0 in shape and value.numel():
            assert torch.equal(value, torch.zeros_like(value)), name
        for grad, operand in zip(torch.autograd.grad(value.sum(), operands), operands, strict=True):
            assert (grad.shape, grad.dtype) == (operand.shape, operand.dtype), name
            assert not grad.isnan().any(), name


# --- strides ---


def layouts(tensor):
    """The same values in other memory."""
    n, c, h, w = tensor.shape
    wide = torch.empty(n, 2 * c, h, w, dtype=tensor.dtype)
    wide[:, :c] = tensor
    last = torch.empty(n, 2 * c, h, w, dtype=tensor.dtype).contiguous(memory_format=torch.channels_last)
    last[:, c:] = tensor
    sparse = torch.empty(n, c, h, 2 * w, dtype=tensor.dtype)
    sparse[..., ::2] = tensor
    offset = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:].view(tensor.shape)
    offset.copy_(tensor)
    return {
        "contiguous": tensor,
        "first half": wide[:, :c],
        "channels last": tensor.contiguous(memory_format=torch.channels_last),
        "second half, channels last": last[:, c:],
        "every other": sparse[..., ::2],
        "unaligned": offset,
        "transposed": tensor.transpose(2, 3).contiguous().transpose(2, 3),
        "permuted": tensor.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    }


NAMES = tuple(layouts(torch.zeros(1, 1, 1, 1)))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.interpreted(where=lambda dtype: dtype == torch.float32)
@pytest.mark.parametrize("second", ["same", "contiguous"])
@pytest.mark.parametrize("name", NAMES)
def test_strided_operands(name, second, dtype, backend):
    shape, served = (3, 4, 5, 7), examples.served(backend)
    special = [
        (lambda m, s: fastvae.rsample(m, s, seed=1, num_samples=2), 2),
        (lambda m, s: fastvae.rsample_kl(m, s, seed=1)[1], 2),
        (lambda m, s: fastvae.kl_standard_normal(m, s, event_ndim=0), 2),
        (lambda m, s, p: fastvae.kl_normal(m, s, p, s), 3),
        (lambda x, m, s: fastvae.gaussian_log_prob(x, m, s, event_ndim=2), 3),
    ]
    # The first operands may get no gradient.
    cases = [
        (examples.EXAMPLES[o.name].call, examples.operands(o, shape, dtype), len(o.operands) - len(o.differentiable))
        for o in served
        if o.name != "elbo"
    ]
    cases += [(call, [torch.randn(shape).to(dtype) for _ in range(count)], 0) for call, count in special]
    for function, base, fixed in cases:
        plain = [t.clone().requires_grad_(i >= fixed) for i, t in enumerate(base)]
        # Leaves that keep their strides: a clone would not.
        strided = [
            layouts(t)[name if i == 0 or second == "same" else "contiguous"].detach().requires_grad_(i >= fixed)
            for i, t in enumerate(base)
        ]

        def call(*operands, function=function):
            return examples.several(function(*operands))[0]

        value, wanted = call(*strided), call(*plain)
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-6)
        cotangent = torch.randn_like(wanted)
        grads = torch.autograd.grad(value, strided[fixed:], cotangent)
        truths = torch.autograd.grad(wanted, plain[fixed:], cotangent)
        for grad, truth, leaf in zip(grads, truths, strided[fixed:], strict=True):
            # Elementwise arithmetic is the same wherever the element lies; a row's sum may be ordered otherwise.
            assert torch.equal(grad, truth)
            assert grad.stride() == torch.empty_like(leaf).stride()


@pytest.mark.parametrize("name", ["channels last", "permuted"])
def test_samples_keep_the_layout_of_mean(name, dtype):
    mean = layouts(torch.randn(3, 4, 5, 7).to(dtype))[name]
    assert fastvae.rsample(mean, mean).stride() == mean.stride()
    assert fastvae.rsample_kl(mean, mean)[0].stride() == mean.stride()


def test_halves_of_packed_parameters(dtype):
    packed = torch.randn(9, 26).to(dtype).requires_grad_()
    mean, log_var = packed.chunk(2, 1)
    z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
    (grad,) = torch.autograd.grad(z.sum() + kl.sum(), packed)
    apart = [t.detach().clone().requires_grad_() for t in (mean, log_var)]
    z, kl = fastvae.rsample_kl(*apart, seed=1)
    assert torch.equal(grad, torch.cat(torch.autograd.grad(z.sum() + kl.sum(), apart), 1))


def test_expanded_operands(dtype):
    row = torch.randn(1, 13).to(dtype).requires_grad_()
    whole, narrow = torch.randn(6, 13).to(dtype), row.expand(6, 13)
    for call in (fastvae.kl_standard_normal, fastvae.bernoulli_log_prob, lambda m, s: fastvae.rsample(m, s, seed=1)):
        value = call(whole, narrow)
        torch.testing.assert_close(value, call(whole, narrow.detach().clone()), rtol=1e-6, atol=1e-6)
        (grad,) = torch.autograd.grad(value.sum(), row)
        leaf = narrow.detach().clone().requires_grad_()
        (each,) = torch.autograd.grad(call(whole, leaf).sum(), leaf)
        torch.testing.assert_close(
            grad, each.sum(0, keepdim=True), rtol=TOLERANCE[dtype] * 5, atol=TOLERANCE[dtype] * 5
        )


@pytest.mark.parametrize("kind", ["expanded", "row of a matrix", "reversed", "channels last"])
def test_grad_outputs_of_any_stride(kind, dtype):
    mean, log_var = (torch.randn(6, 4, 5, 3).to(dtype).requires_grad_() for _ in range(2))
    for event_ndim in (0, 3):
        value = fastvae.kl_standard_normal(mean, log_var, event_ndim=event_ndim)
        cotangent = torch.randn_like(value)
        strided = {
            "expanded": lambda c: c.new_tensor(1.7).expand(c.shape),
            "row of a matrix": lambda c: torch.stack((c, c), -1)[..., 0],
            "reversed": lambda c: c.permute(*range(c.dim())[::-1]).contiguous().permute(*range(c.dim())[::-1]),
            "channels last": lambda c: c.contiguous(memory_format=torch.channels_last) if c.dim() == 4 else c,
        }[kind](cotangent)
        grads = torch.autograd.grad(value, (mean, log_var), strided, retain_graph=True)
        wanted = torch.autograd.grad(value, (mean, log_var), strided.clone(memory_format=torch.contiguous_format))
        assert all(torch.equal(g, w) for g, w in zip(grads, wanted, strict=True))
    z = fastvae.rsample(mean, log_var, seed=1, num_samples=2)
    expanded = torch.autograd.grad(z.sum(), (mean, log_var), retain_graph=True)
    wanted = torch.autograd.grad(z, (mean, log_var), torch.ones_like(z))
    assert all(torch.equal(g, w) for g, w in zip(expanded, wanted, strict=True))


# --- threads ---

# Few long rows, many short ones, one row, a square.
BIG = [(4, 786432), (512, 12288), (100_000, 20), (1, 1_000_000), (1000, 784)]


@pytest.mark.not_interpreted
@pytest.mark.parametrize("shape", BIG)
def test_threads_do_not_change_a_bit(shape, backend):
    if backend == "reference":
        # Plain torch takes seconds for what the kernels do in milliseconds; these still exceed torch's grain of 32768.
        shape = tuple(n // 16 if n > 2000 else n for n in shape)
    mean, log_var = (torch.randn(shape).requires_grad_() for _ in range(2))
    x = torch.rand(shape)
    shared = torch.zeros((), requires_grad=True)

    def run():
        z, kl = fastvae.rsample_kl(mean, log_var, seed=3)
        # No gradient of Bernoulli's in the reference: torch's sigmoid rounds the tail of a thread's share otherwise.
        logits = mean if backend == "native" else mean.detach()
        log_px = fastvae.bernoulli_log_prob(x, logits) + fastvae.gaussian_log_prob(x, mean, shared)
        terms = fastvae.elbo(log_px, kl, 0.5)
        results = [z, kl, log_px, *terms]
        results += torch.autograd.grad(terms.loss + z.sum() * 1e-3, (mean, log_var, shared))
        return [r.detach() for r in results]

    wanted = run()
    torch.set_num_threads(2)
    for _ in range(2):
        for result, expected in zip(run(), wanted, strict=True):
            assert torch.equal(result, expected)


@pytest.mark.not_interpreted
def test_threads_do_not_change_the_mean_of_a_large_batch():
    log_px, kl = torch.randn(300_001), torch.rand(300_001)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(torch.stack(fastvae.elbo(log_px, kl)))
    assert torch.equal(*results)
