"""Likelihoods of classes: truth, limits, what is read in place, keywords over the batch, derivatives, compilers."""

from __future__ import annotations

import functools
import math

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import examples
import fastvae
from fastvae.ops import CONTRACTS

pytestmark = pytest.mark.usefixtures("backend")

EXCESS_BITS = 4
multinomial, categorical = fastvae.multinomial_log_prob, fastvae.categorical_log_prob
unnormalized = functools.partial(multinomial, normalized=False)


@pytest.fixture(autouse=True)
def _kernels(backend):
    examples.skip_without_kernel("multinomial_log_prob", backend)


def counts_and_logits(shape=(5, 7), dtype=torch.float32):
    return torch.poisson(torch.full(shape, 2.0)), torch.randn(shape).to(dtype).requires_grad_()


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


# --- truth ---


def away_from_0(rng, lo, hi, size):
    return rng.uniform(lo, hi, size) * rng.choice((-1.0, 1.0), size)


def expected_counts(rng, logits, mean):
    """Near what the logits expect: there the factorials cancel with the rest."""
    p = np.exp(logits - logits.max())
    return rng.poisson(mean * p / p.mean()).astype(float)


def dominated(rng, size):
    logits = away_from_0(rng, 0.5, 4.0, size)
    logits[size // 2] = 30.0
    return logits


# Name: (counts, logits) of a row. Logits are away from 0, since rounding one near 0 explains nothing of what rounding
# its exponential costs.
ROWS = {
    "few counts": lambda rng: (rng.poisson(1.0, 40).astype(float), away_from_0(rng, 0.5, 4, 40)),
    "logits to 80": lambda rng: (rng.poisson(2.0, 60).astype(float), away_from_0(rng, 1, 80, 60)),
    "a common offset": lambda rng: (rng.poisson(2.0, 60).astype(float), 1e4 + rng.uniform(-80, 80, 60)),
    "counts to a million": lambda rng: (lambda a: (expected_counts(rng, a, 2e5), a))(away_from_0(rng, 0.5, 2, 300)),
    "thousands of classes": lambda rng: (lambda a: (expected_counts(rng, a, 20), a))(away_from_0(rng, 0.5, 4, 3000)),
    "all on the largest": lambda rng: (np.eye(12)[6] * 9, dominated(rng, 12)),
    "beside the largest": lambda rng: (np.eye(12)[6] * 9 + np.eye(12)[2], dominated(rng, 12)),
    "nothing counted": lambda rng: (np.zeros(9), away_from_0(rng, 0.5, 4, 9)),
    "two classes": lambda rng: (np.array([5.0, 3.0]), np.array([0.7, -0.9])),
    "one class": lambda rng: (np.array([5.0]), np.array([0.7])),
}


def assert_accurate(value, grad, truth: oracles.RowTruth):
    for found, wanted, explained in ((value[None], [truth.value], [truth.of_value]), (grad, *truth.gradients())):
        bits = oracles.excess_bits(found, wanted, explained)
        assert max(bits) <= EXCESS_BITS, bits


@pytest.mark.interpreted(where=lambda row: row in ("few counts", "a common offset", "all on the largest"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("row", ROWS)
def test_value_and_gradient_are_the_truth(row, normalized, dtype):
    counts, logits = (torch.tensor(a).to(dtype) for a in ROWS[row](np.random.default_rng(0)))
    value = multinomial(counts, logits.requires_grad_(), normalized=normalized)
    (grad,) = torch.autograd.grad(value, logits)
    assert_accurate(value.detach(), grad, oracles.RowTruth(counts.tolist(), logits.tolist(), normalized))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.interpreted(where=lambda row: row != "thousands of classes")
@pytest.mark.parametrize(
    "row", ["logits to 80", "a common offset", "all on the largest", "one class", "thousands of classes"]
)
def test_a_class_is_one_count(row, dtype):
    logits = torch.tensor(ROWS[row](np.random.default_rng(0))[1]).to(dtype)
    for index in {0, logits.numel() // 2, logits.numel() - 1}:
        leaf = logits.clone().requires_grad_()
        value = categorical(torch.tensor(index), leaf)
        (grad,) = torch.autograd.grad(value, leaf)
        one = F.one_hot(torch.tensor(index), logits.numel()).tolist()
        assert_accurate(value.detach(), grad, oracles.RowTruth(one, logits.tolist(), False))


# On CPUs many rows are walked abreast, up to 128 classes by columns and up to 1024 by rows.
@pytest.mark.interpreted(where=lambda classes: classes == 3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 3, 128, 129, 1024, 1025])
def test_a_row_is_the_same_among_others(classes, dtype):
    x, logits = torch.randint(-1, classes + 1, (71,)), torch.randn(71, classes, dtype=dtype)
    logits[5] = math.inf
    logits[9, 0] = -math.inf
    x[5] = x[9] = 0
    mask = torch.rand(71) > 0.2
    among, alone = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    values = categorical(x, among, mask=mask)
    values.sum().backward()
    ones = [categorical(x[i : i + 1], alone[i : i + 1], mask=mask[i : i + 1]) for i in range(71)]
    torch.cat(ones).sum().backward()
    for found, wanted in ((values, torch.cat(ones)), (among.grad, alone.grad)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    is_class = (x >= 0) & (x < classes)
    no_limit = logits.isposinf().sum(1) > 1
    assert torch.equal(values.isnan(), mask & (~is_class | no_limit))


@pytest.mark.interpreted(where=lambda dtype: dtype == torch.bfloat16)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_in_float32_and_rounded_once(dtype):
    x, half = counts_and_logits(dtype=dtype)
    wide = half.detach().float().requires_grad_()
    for call, value in ((multinomial, x.to(dtype)), (unnormalized, x), (categorical, x[:, 0].long())):
        assert torch.equal(call(value, half), call(value, wide))
        (grad,), (wanted,) = (torch.autograd.grad(call(value, leaf).sum(), leaf) for leaf in (half, wide))
        assert torch.equal(grad, wanted.to(dtype))


# --- limits ---


def test_a_logit_of_minus_infinity_is_a_class_without_mass():
    logits = torch.tensor([[-math.inf, 0.5, 1.5], [-math.inf, 0.5, 1.5]], requires_grad=True)
    x = torch.tensor([[0.0, 2, 1], [1.0, 2, 0]])
    rest = logits.detach()[:1, 1:].clone().requires_grad_()
    for call in (multinomial, unnormalized):
        value, wanted = call(x, logits), call(x[:1, 1:], rest)
        torch.testing.assert_close(value[0], wanted[0])
        assert value[1] == -math.inf
        (grad,), (of_rest,) = torch.autograd.grad(value.sum(), logits), torch.autograd.grad(wanted.sum(), rest)
        torch.testing.assert_close(grad[:1], F.pad(of_rest, (1, 0)))
        assert grad[1, 0] == 1
    assert categorical(torch.tensor(0), logits[0]) == -math.inf


def test_a_logit_of_infinity_takes_all_of_the_mass():
    logits = torch.tensor([0.5, math.inf, 1.5], requires_grad=True)
    for value in (unnormalized(torch.tensor([0, 3, 0]), logits), categorical(torch.tensor(1), logits)):
        assert value == 0
        assert (torch.autograd.grad(value, logits)[0] == 0).all()
    assert unnormalized(torch.tensor([1, 3, 0]), logits) == -math.inf


@pytest.mark.parametrize("logits", [[math.inf, math.inf, 0.0], [-math.inf] * 3, [0.0, math.nan, 1.0]])
def test_where_there_is_no_limit_it_is_nan(logits):
    leaf = torch.tensor(logits, requires_grad=True)
    for value in (multinomial(torch.tensor([1, 2, 0]), leaf), categorical(torch.tensor(0), leaf)):
        assert value.isnan()
        assert torch.autograd.grad(value, leaf)[0].isnan().any()


def test_an_index_that_is_no_class_is_nan_in_its_row_alone():
    logits = torch.randn(4, 3, requires_grad=True)
    value = categorical(torch.tensor([-1, 2, 3, 0]), logits)
    assert value.isnan().tolist() == [True, False, True, False]
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert grad.isnan().all(1).tolist() == grad.isnan().any(1).tolist() == [True, False, True, False]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4)])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_nothing(shape, reduction):
    logits = torch.zeros(shape, requires_grad=True)
    value = multinomial(torch.zeros(shape), logits, reduction=reduction)
    assert torch.equal(value, torch.zeros(shape[:-1] if reduction == "none" else ()))
    assert torch.autograd.grad(value.sum(), logits)[0].shape == shape


# --- what is read ---


@pytest.mark.interpreted(where=lambda dtype: dtype in (torch.bool, torch.int64))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_integers_are_read_as_they_are(dtype):
    x, logits = torch.randint(0, 2, (5, 7)), torch.randn(5, 7)
    assert torch.equal(multinomial(x.to(dtype), logits), multinomial(x.float(), logits))
    if dtype != torch.bool:
        assert torch.equal(categorical(x[:, 0].to(dtype), logits), categorical(x[:, 0], logits))


def test_layouts_of_rows():
    x, logits = torch.poisson(torch.full((2, 2, 6), 2.0)), torch.randn(2, 2, 6)
    for call, value in ((multinomial, x), (categorical, x[..., 0].clamp(max=5).int())):
        dense = logits.clone().requires_grad_()
        wanted = call(value, dense)
        (of_dense,) = torch.autograd.grad(wanted.sum(), dense)
        for strided in (logits.mT.contiguous().mT, torch.stack([logits, logits], -1)[..., 0]):
            leaf = strided.detach().requires_grad_()
            found = call(value, leaf)
            torch.testing.assert_close(found, wanted)
            torch.testing.assert_close(torch.autograd.grad(found.sum(), leaf)[0], of_dense)
    assert torch.equal(multinomial(torch.cat([x, x], -1).chunk(2, -1)[1], logits), multinomial(x, logits))


def test_samples_on_a_leading_axis_and_logits_that_rows_share():
    x, logits = torch.poisson(torch.full((3, 7), 2.0)), torch.randn(2, 3, 7)
    index = x[:, 0].clamp(max=6).long()
    for call, value in ((multinomial, x), (categorical, index)):
        each = torch.stack([call(value, sample) for sample in logits])
        assert torch.equal(call(value, logits), each)
        torch.testing.assert_close(call(value, logits, reduction="mean"), each.mean())
        shared = logits[0, 0].clone().requires_grad_()
        whole = shared.detach().expand(3, 7).clone().requires_grad_()
        for reduction in ("none", "sum"):
            value_of = lambda a, r=reduction, c=call, v=value: c(v, a, reduction=r).sum()  # noqa: E731
            (grad,), (wanted,) = (torch.autograd.grad(value_of(leaf), leaf) for leaf in (shared, whole))
            torch.testing.assert_close(grad, wanted.sum(0))


@pytest.mark.not_interpreted
def test_long_rows_in_parts_and_on_any_number_of_threads():
    bits = []
    for shape in ((3, 50_001), (40, 20_011)):
        x, logits = counts_and_logits(shape)
        wide = logits.detach().double().requires_grad_()
        value, wanted = multinomial(x, logits), multinomial(x.double(), wide)
        torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=0)
        (grad,), (of_wide,) = torch.autograd.grad(value.sum(), logits), torch.autograd.grad(wanted.sum(), wide)
        torch.testing.assert_close(grad.double(), of_wide, rtol=1e-6, atol=1e-5)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            total = multinomial(x, logits, reduction="sum")
            bits.append((total.detach(), torch.autograd.grad(total, logits)[0]))
        for one, two in zip(*bits[-2:], strict=True):
            assert torch.equal(one, two)


# --- keywords ---


@pytest.mark.interpreted(where=lambda upstream, reduction: (upstream, reduction) == (2.5, "mean"))
@pytest.mark.parametrize("upstream", [-1.0, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("call", [multinomial, unnormalized, categorical])
def test_a_reduction_is_that_of_the_batch(call, reduction, upstream):
    x, logits = counts_and_logits()
    x = x[:, 0].long().clamp(max=6) if call is categorical else x
    weight = torch.rand(5)
    for keywords in ({}, {"weight": weight}):
        each, whole = call(x, logits, **keywords), call(x, logits, reduction=reduction, **keywords)
        wanted = each.mean() if reduction == "mean" else each.sum()
        torch.testing.assert_close(whole, wanted, rtol=1e-6, atol=1e-6)
        (grad,), (expected,) = (torch.autograd.grad(upstream * v, logits) for v in (whole, wanted))
        torch.testing.assert_close(grad, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.interpreted(where=lambda reduction: reduction == "sum")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_masked_rows_are_exactly_zero_even_as_nan(reduction):
    mask = torch.tensor([True, False, True, False, True])
    for call in (multinomial, categorical):
        x, logits = counts_and_logits()
        x = x[:, 0].long().clamp(max=6) if call is categorical else x
        clean = call(x, logits) * mask
        (wanted,) = torch.autograd.grad(clean.sum(), logits)
        with torch.no_grad():
            logits[1] = math.nan
            x[3] = 99 if call is categorical else math.nan
        value = call(x, logits, mask=mask, reduction=reduction)
        torch.testing.assert_close(value, clean if reduction == "none" else clean.sum())
        (grad,) = torch.autograd.grad(value.sum(), logits)
        assert (grad[~mask] == 0).all()
        torch.testing.assert_close(grad, wanted)


@pytest.mark.not_interpreted
@pytest.mark.parametrize("shape", [(5,), (1,), ()])
def test_a_weight_that_is_learned_gets_its_gradient(shape):
    x, logits = counts_and_logits()
    weight = torch.rand(shape, requires_grad=True)
    each = multinomial(x, logits).detach()
    for reduction, wanted in (("none", each), ("mean", each / 5)):
        value = multinomial(x, logits, weight=weight, reduction=reduction).sum()
        torch.testing.assert_close(value, (wanted * weight).sum())
        torch.testing.assert_close(torch.autograd.grad(value, weight)[0], wanted.sum_to_size(shape))


NINE = torch.zeros(4, *[1] * 7, 6)
X, LOGITS, INDEX = torch.zeros(4, 6), torch.zeros(4, 6), torch.zeros(4, dtype=torch.long)
WRONG = [
    (lambda: multinomial(None, LOGITS), TypeError, "x must be a tensor, got NoneType"),
    (lambda: multinomial(X, INDEX), TypeError, "logits must be torch.bfloat16"),
    (lambda: multinomial(X, LOGITS.to("meta")), ValueError, "logits is on meta, x on cpu: one device is wanted"),
    (lambda: multinomial(X, torch.zeros(5)), ValueError, r"x \[4, 6\], logits \[5\]"),
    (lambda: multinomial(X[:, :1], LOGITS), ValueError, r"must be the same classes, got x \[4, 1\], logits \[4, 6\]"),
    (lambda: multinomial(X[0, 0], LOGITS[0, 0]), ValueError, "must be the same classes"),
    (lambda: multinomial(X, LOGITS, reduction="median"), ValueError, "reduction must be one of"),
    (lambda: multinomial(X, LOGITS, mask=X > 0), ValueError, r"mask \[4, 6\] does not broadcast"),
    (lambda: multinomial(X, LOGITS, weight=X[0]), ValueError, r"weight \[6\] does not broadcast"),
    (lambda: categorical(X, LOGITS), TypeError, "x must be torch.int16"),
    (lambda: categorical(INDEX[:3], LOGITS), ValueError, r"x \[3\], logits \[4, 6\]"),
    (lambda: categorical(INDEX[0], LOGITS[0, 0]), ValueError, r"x \[\], logits \[\]"),
    (lambda: categorical(INDEX, LOGITS, weight=X), ValueError, r"weight \[4, 6\] does not broadcast"),
    (lambda: categorical(INDEX[0], torch.zeros(1).expand(2**24 + 1)), ValueError, "at most 16777216 classes"),
    (lambda: multinomial(NINE, NINE), ValueError, "at most 8 dimensions"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- derivatives, transforms, compilers ---


def weighted(x, logits):
    return multinomial(x, logits, weight=torch.tensor([0.0, 1.5], dtype=logits.dtype))


# Functions of counts and logits.
CALLS = {
    "multinomial": multinomial,
    "unnormalized": unnormalized,
    "weighted": weighted,
    "mean": functools.partial(multinomial, reduction="mean"),
    "categorical": lambda x, logits: categorical(x[..., 0].long() % 3, logits),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.mark.not_interpreted
def test_first_and_second_derivatives(call):
    x, logits = torch.tensor([[2, 0, 1], [1, 3, 0]]), double(2, 3)
    of_logits = functools.partial(call, x)
    assert torch.autograd.gradcheck(of_logits, logits, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(of_logits, logits)
    jacobian, direction = torch.func.jacrev(of_logits)(logits), torch.randn_like(logits)
    torch.testing.assert_close(torch.func.jacfwd(of_logits)(logits), jacobian)
    tangent = (jacobian * direction).flatten(-2).sum(-1)
    torch.testing.assert_close(torch.func.jvp(of_logits, (logits,), (direction,))[1], tangent)
    hessian = torch.autograd.functional.hessian(lambda a: of_logits(a).sum(), logits)
    torch.testing.assert_close(torch.func.hessian(lambda a: of_logits(a).sum())(logits), hessian)


@pytest.mark.not_interpreted
@pytest.mark.parametrize("batch", [0, 3])
def test_vmap_is_a_loop(call, batch):
    x, logits = torch.randint(0, 3, (batch, 2, 4)), torch.randn(batch, 2, 4, dtype=torch.float64)
    gradient = torch.func.grad(lambda a, x: call(x, a).sum())
    for mapped, looped in (
        (torch.func.vmap(call)(x, logits), [call(*each) for each in zip(x, logits, strict=True)]),
        (torch.func.vmap(gradient)(logits, x), [gradient(*each) for each in zip(logits, x, strict=True)]),
    ):
        assert mapped.shape[0] == batch
        if batch:
            torch.testing.assert_close(mapped, torch.stack(looped))
    shared = torch.randn(2, 4, dtype=torch.float64)
    per_sample = torch.func.vmap(gradient, in_dims=(None, 0))(shared, x)
    assert per_sample.shape == (batch, 2, 4)


@pytest.mark.not_interpreted
@pytest.mark.parametrize("choice", ["formula", "kernel"])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "weighted"])  # whose weight has two rows
def test_it_compiles_into_one_graph_for_any_batch(name, choice):
    call = CALLS[name]
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    with fastvae.backends.compiled.to(choice), torch._dynamo.config.patch(error_on_recompile=True):
        for rows in (4, 9):
            x, logits = counts_and_logits((rows, 6))
            value, wanted = compiled(x, logits), call(x, logits)
            torch.testing.assert_close(value, wanted)
            (grad,), (expected,) = (torch.autograd.grad(v.sum(), logits) for v in (value, wanted))
            torch.testing.assert_close(grad, expected)


class Exported(torch.nn.Module):
    def forward(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        return multinomial(x, logits), categorical(x[..., 0].long() % 3, logits, reduction="mean")


@pytest.mark.not_interpreted
def test_it_exports_with_a_dynamic_batch():
    batch = torch.export.Dim("batch")
    shapes = ({0: batch}, {0: batch})
    exported = torch.export.export(Exported(), counts_and_logits((4, 6)), dynamic_shapes=shapes).module()
    for rows in (4, 9):
        operands = counts_and_logits((rows, 6))
        torch.testing.assert_close(exported(*operands), Exported()(*operands))


@pytest.mark.not_interpreted
def test_opcheck():
    for name, arguments in examples.row_arguments():
        torch.library.opcheck(CONTRACTS[name].call, arguments)


@pytest.mark.not_interpreted
def test_saved_are_the_operands_and_the_host_is_never_asked():
    saved = []
    x, logits = counts_and_logits((64, 32))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        multinomial(x, logits)
    assert {t.data_ptr() for t in saved} == {x.data_ptr(), logits.data_ptr()}
