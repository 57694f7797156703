"""Losses under torch's signatures: torch's own, in float64, are the truth, in shape, dtype and error too."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

import fastvae.functional as fast

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.not_interpreted]

REDUCTIONS = ("none", "sum", "mean")
# Of float32 sums of some hundred terms; results in half precision are rounded once more.
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
}
SHAPES = ((7, 33), (5,), (), (2, 3, 4, 5))


def leaves(*tensors):
    return [t.detach().clone().requires_grad_() if t.is_floating_point() else t for t in tensors]


def compare(function, name, operands, **keywords):
    """With torch's function on the same numbers in float64: value, dtype as torch has it, and gradients."""
    given, exact = leaves(*operands), leaves(*(t.double() for t in operands))
    result, wanted = function(*given, **keywords), getattr(F, name)(*exact, **keywords)
    assert result.dtype == getattr(F, name)(*operands, **keywords).dtype
    assert result.shape == wanted.shape
    tolerance = TOLERANCES[result.dtype]
    torch.testing.assert_close(result.double(), wanted, **tolerance)
    upstream = torch.rand(wanted.shape, dtype=torch.float64)
    grads = torch.autograd.grad(result, given, upstream.to(result.dtype))
    truths = torch.autograd.grad(wanted, exact, upstream.to(result.dtype).double())
    for grad, truth, operand in zip(grads, truths, given, strict=True):
        assert (grad.dtype, grad.shape) == (operand.dtype, operand.shape)
        torch.testing.assert_close(grad.double(), truth, **TOLERANCES[operand.dtype])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_binary_cross_entropy(dtype, shape, reduction):
    operands = (3 * torch.randn(shape)).to(dtype), torch.rand(shape).to(dtype)
    compare(fast.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits", operands, reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("keyword", ["weight", "pos_weight"])
def test_binary_cross_entropy_weighted(keyword, reduction):
    operands = torch.randn(7, 33), torch.rand(7, 33)
    name = "binary_cross_entropy_with_logits"
    exact = getattr(F, name)(*operands, **{keyword: torch.arange(33.0)}, reduction=reduction)
    found = getattr(fast, name)(*operands, **{keyword: torch.arange(33.0)}, reduction=reduction)
    torch.testing.assert_close(found, exact, rtol=2e-6, atol=2e-6)


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize(("size_average", "reduce"), [(True, None), (False, None), (None, False), (False, True)])
def test_binary_cross_entropy_with_what_torch_has_deprecated(size_average, reduce):
    operands = torch.randn(7, 33), torch.rand(7, 33)
    found, wanted = (
        module.binary_cross_entropy_with_logits(*operands, size_average=size_average, reduce=reduce)
        for module in (fast, F)
    )
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("var_shape", [(4, 3, 5), (4, 3), (4, 3, 1), (4, 1, 5)], ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_gaussian_nll(dtype, var_shape, full, reduction):
    """A third of the variances lie below eps: their gradient is the one at eps, as in torch."""
    var = 0.1 * (3 * torch.rand(var_shape)).floor() + 0.25 * torch.rand(var_shape)
    operands = torch.randn(4, 3, 5).to(dtype), torch.randn(4, 3, 5).to(dtype), var.to(dtype)
    keywords = {"full": full, "eps": 0.125, "reduction": reduction}
    compare(fast.gaussian_nll_loss, "gaussian_nll_loss", operands, **keywords)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_nll(dtype, log_input, full, reduction):
    """Of a row of counts and a batch of rates, some of them 0."""
    counts = torch.randint(1, 5, (5,)).to(dtype)  # of 0, torch differentiates `full` to NaN
    rate = torch.randn(4, 5) if log_input else (2 * torch.rand(4, 5) - 0.5).clamp(min=0)
    keywords = {"log_input": log_input, "full": full, "eps": 0.25, "reduction": reduction}
    compare(fast.poisson_nll_loss, "poisson_nll_loss", (rate.to(dtype), counts), **keywords)


def test_poisson_nll_of_integers():
    rate, counts = torch.randn(4, 5), torch.randint(0, 9, (4, 5))
    torch.testing.assert_close(fast.poisson_nll_loss(rate, counts), F.poisson_nll_loss(rate, counts))


def test_gaussian_nll_with_a_number():
    mean, target = torch.randn(6, 5), torch.randn(6, 5)
    for var, reduction in itertools.product((0.5, 0.0), REDUCTIONS):
        found, wanted = (m.gaussian_nll_loss(mean, target, var, reduction=reduction) for m in (fast, F))
        torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_probabilities_are_clamped_where_that_is_asked_for(reduction):
    logits, x = torch.tensor([-300.0, -5.0, 17.5, 300.0]), torch.tensor([1.0, 0.3, 0.0, 0.0])
    name = "binary_cross_entropy_with_logits"
    found = getattr(fast, name)(logits, x, reduction=reduction, compat="probabilities")
    assert torch.equal(found, F.binary_cross_entropy(logits.sigmoid(), x, reduction=reduction))
    assert not torch.equal(found, getattr(fast, name)(logits, x, reduction=reduction))
    for keywords in ({"compat": "keras"}, {"compat": "probabilities", "pos_weight": x}):
        with pytest.raises(ValueError, match="compat must be None or"):
            getattr(fast, name)(logits, x, **keywords)


def test_nothing_has_the_mean_that_torch_gives():
    nothing = torch.empty(0, 3)
    assert fast.binary_cross_entropy_with_logits(nothing, nothing).isnan()
    assert fast.gaussian_nll_loss(nothing, nothing, nothing).isnan()


ones = torch.ones
REFUSED = {
    "another shape": ("binary_cross_entropy_with_logits", (ones(2, 3), ones(3, 2)), {}),
    "reduction of BCE": ("binary_cross_entropy_with_logits", (ones(2, 3), ones(2, 3)), {"reduction": "max"}),
    "reduction of Poisson": ("poisson_nll_loss", (ones(2, 3), ones(2, 3)), {"reduction": "max"}),
    "reduction": ("gaussian_nll_loss", (ones(2, 3), ones(2, 3), ones(2, 3)), {"reduction": "max"}),
    "negative": ("gaussian_nll_loss", (ones(2, 3), ones(2, 3), -ones(2, 3)), {}),
    "negative number": ("gaussian_nll_loss", (ones(2, 3), ones(2, 3), -1.0), {}),
    "shape of var": ("gaussian_nll_loss", (ones(2, 3), ones(2, 3), ones(3, 2)), {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_is_refused_alike(case):
    name, operands, keywords = REFUSED[case]
    operands = [o.to(torch.get_default_device()) if isinstance(o, torch.Tensor) else o for o in operands]
    with pytest.raises(ValueError, match=r".+") as theirs:
        getattr(F, name)(*operands, **keywords)
    with pytest.raises(ValueError, match=r".+") as ours:
        getattr(fast, name)(*operands, **keywords)
    assert str(theirs.value).split("(")[0].strip() in str(ours.value)


@pytest.mark.parametrize("name", fast.torch_losses.__all__)
def test_autocast_has_torchs_dtype(name):
    logits, x = torch.randn(4, 8, dtype=torch.bfloat16), torch.rand(4, 8, dtype=torch.bfloat16)
    operands = (logits, x, x + 0.5) if name.startswith("gaussian") else (logits, x)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        found, wanted = getattr(fast, name)(*operands), getattr(F, name)(*operands)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", fast.torch_losses.__all__)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_compiled_and_transformed(name, reduction):
    torch._dynamo.reset()  # one code object, a graph for each case

    def loss(x, logits):
        operands = (logits, x, x + 0.5) if name.startswith("gaussian") else (logits, x)
        return getattr(fast, name)(*operands, reduction=reduction).sum()

    x, logits = torch.rand(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    wanted = torch.func.grad(loss, argnums=1)(x, logits)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaf = logits.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(compiled(x, leaf), leaf)[0], wanted)
    each = torch.vmap(torch.func.grad(loss, argnums=1))(x, logits)
    torch.testing.assert_close(each, wanted * (6 if reduction == "mean" else 1))
    torch.autograd.gradgradcheck(loss, (x.requires_grad_(), leaf))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_loss_is_differentiated_again(reduction):
    """A second backward, another upstream gradient, and a second derivative: none has the gradients made ahead."""
    logits, target = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.rand(4, 5, dtype=torch.float64)
    for name in ("binary_cross_entropy_with_logits", "poisson_nll_loss"):
        found, wanted = [], []
        for module, results in ((fast, found), (F, wanted)):
            loss = getattr(module, name)(logits, target, reduction=reduction)
            results += torch.autograd.grad(loss, logits, torch.tensor(3.0, dtype=loss.dtype), retain_graph=True)
            results += torch.autograd.grad(loss, logits, retain_graph=True)
            (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
            results += torch.autograd.grad((grad**2).sum(), logits)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
