"""A linear layer with its likelihood, against torch's own of the whole output in float64; in chunks that are small."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import fastvae
from examples import CONSTANTS
from fastvae.backends import compiled
from fastvae.ops import _chunks, _in_chunks
from fastvae.ops._in_chunks import InChunks
from fastvae.ops.linear import LINEAR_BERNOULLI_LOG_PROB, LINEAR_GAUSSIAN_LOG_PROB

H, D = 3, 7
CHUNKS = {"one chunk": (64, D), "rows": (3, D), "rows and columns": (2, 3)}


@pytest.fixture(params=CHUNKS)
def chunk(request, monkeypatch):
    rows, columns = CHUNKS[request.param]
    monkeypatch.setattr(_chunks, "chunk_shape", lambda of_rows, of_columns, *_: (min(rows, of_rows), columns))


small_chunks = pytest.mark.parametrize("chunk", ["rows and columns"], indirect=True)


def bernoulli(x, logits, log_var, elements):
    x, logits = torch.broadcast_tensors(x, logits)
    terms = -F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return (terms * elements).sum(-1)


def gaussian(x, mean, log_var, elements):
    terms = torch.distributions.Normal(mean, (log_var / 2).exp()).log_prob(x)
    return (terms * elements).sum(-1)


HEADS = {
    "bernoulli": (lambda *a, log_var, **k: fastvae.linear_bernoulli_log_prob(*a, **k), bernoulli),
    "gaussian": (fastvae.linear_gaussian_log_prob, gaussian),
}
# Of x, input and log_var.
SHAPES = {
    "rows": ((5, D), (5, H), (D,)),
    "samples": ((5, D), (4, 5, H), ()),
    "two axes of samples": ((5, D), (2, 3, 5, H), (5, 1)),
    "x of samples": ((4, 5, D), (5, H), (5, D)),
    "one row": ((D,), (H,), (1,)),
    "a middle axis is shared": ((2, 1, D), (1, 4, H), (2, 4, D)),
    "a column for all": ((5, 1), (5, H), ()),
    "nothing": ((0, D), (0, H), (D,)),
    "no input": ((5, D), (5, 0), (D,)),
}


def operands(shapes, dtype=torch.float64):
    x, inputs, log_var = shapes
    made = torch.rand(x), torch.randn(inputs), torch.randn(D, inputs[-1]), torch.randn(D), torch.randn(log_var)
    return [t.to(dtype).requires_grad_() for t in made]


def of_pair(truth, x, inputs, weight, bias, log_var, elements=1.0, reduction="none"):
    log_prob = truth(x, F.linear(inputs, weight, bias), log_var, elements)
    return {"none": lambda t: t, "sum": torch.sum, "mean": torch.mean}[reduction](log_prob)


def gradients(value, leaves, upstream):
    return torch.autograd.grad(value, leaves, upstream, allow_unused=True)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_equals_the_layer_and_its_likelihood(head, shapes, reduction):
    function, truth = HEADS[head]
    leaves = operands(SHAPES[shapes])
    found = function(*leaves[:4], log_var=leaves[4], reduction=reduction)
    wanted = of_pair(truth, *leaves, reduction=reduction)
    if reduction == "mean" and shapes == "nothing":
        assert found == 0  # the mean of nothing
        return
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        alone = function(*leaves[:4], log_var=leaves[4], reduction=reduction)
    torch.testing.assert_close(alone, wanted, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(wanted)
    for a, b in zip(gradients(found, leaves, upstream), gradients(wanted, leaves, upstream), strict=True):
        if a is None:
            assert b is None or head == "bernoulli"
        else:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("backend")
@small_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_masks_bytes_and_no_bias_on_every_backend(chunk, reduction):
    x = torch.randint(0, 256, (4, D), dtype=torch.uint8)
    leaves = [torch.randn(4, H, requires_grad=True), torch.randn(D, H, requires_grad=True)]
    mask, weight = torch.rand(4, 1) > 0.4, torch.rand(D)
    found = fastvae.linear_bernoulli_log_prob(x, *leaves, reduction=reduction, mask=mask, element_weight=weight)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    elements = (mask * weight).double()
    wanted = of_pair(bernoulli, x.double() / 255, *doubles, None, None, elements, reduction)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)
    upstream = torch.randn_like(found)
    for a, b in zip(gradients(found, leaves, upstream), gradients(wanted, doubles, upstream.double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def test_what_is_masked_may_be_nan():
    x, weight = torch.full((2, D), math.nan), torch.randn(D, H, requires_grad=True)
    value = fastvae.linear_bernoulli_log_prob(
        x, torch.randn(2, H), weight, reduction="sum", mask=torch.zeros((), dtype=torch.bool)
    )
    value.backward()
    assert value == 0
    assert not weight.grad.any()


def test_a_weight_of_elements_gets_a_gradient():
    x, inputs, weight, bias, log_var = operands(SHAPES["rows"])
    elements = torch.rand(D, dtype=torch.float64, requires_grad=True)
    found = fastvae.linear_gaussian_log_prob(x, inputs, weight, bias, log_var, element_weight=elements, reduction="sum")
    wanted = of_pair(gaussian, x, inputs, weight, bias, log_var, elements, "sum")
    torch.testing.assert_close(gradients(found, elements, None), gradients(wanted, elements, None))


def wide(dtype):
    x = torch.rand(1500, 60)
    leaves = torch.randn(1500, 40), torch.randn(60, 40) / 6, torch.randn(60) / 10
    return x, [t.to(dtype).requires_grad_() for t in leaves]


def errors(function, x, leaves):
    """Of gradients, by the norm, against float64 on the same operands; and those of the truth rounded once."""
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    wanted = gradients(of_pair(bernoulli, x.double(), *doubles, None, reduction="sum"), doubles, None)
    found = gradients(function(x, *leaves), leaves, None)

    def error(a, b):
        return float((a.double() - b).norm() / b.norm())

    rounded = (b.to(t.dtype) for t, b in zip(leaves, wanted, strict=True))
    return list(map(error, found, wanted)), list(map(error, rounded, wanted))


def eager(x, *layer):
    return of_pair(bernoulli, x, *layer, None, reduction="sum")


def test_no_less_accurate_than_the_pair():
    x, leaves = wide(torch.float32)
    fused, _ = errors(functools.partial(fastvae.linear_bernoulli_log_prob, reduction="sum"), x, leaves)
    pair, _ = errors(eager, x, leaves)
    # Sums are ordered otherwise: a half more, or a tenth of a rounding, is no loss.
    assert all(a <= 1.5 * b + 1e-8 for a, b in zip(fused, pair, strict=True))


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_gradients_in_bfloat16_are_rounded_once(reduction):
    x, leaves = wide(torch.bfloat16)
    fused, rounded = errors(lambda *a: fastvae.linear_bernoulli_log_prob(*a, reduction=reduction).sum(), x, leaves)
    pair, _ = errors(eager, x, leaves)
    assert all(a <= 1.01 * b for a, b in zip(fused, rounded, strict=True))
    assert fused[1] < pair[1]


@small_chunks
@pytest.mark.parametrize("head", HEADS)
def test_first_and_second_derivatives(head, chunk):
    x, inputs, weight, bias, log_var = operands(((2, D), (2, 2, H), ()))
    leaves = [x, inputs, weight, bias] + ([log_var] if head == "gaussian" else [])

    def call(*given, reduction):
        return HEADS[head][0](*given[:4], log_var=log_var if head == "bernoulli" else given[4], reduction=reduction)

    for reduction in ("none", "mean"):
        function = functools.partial(call, reduction=reduction)
        # A first backward has the gradients that were made ahead, a second one makes them anew, in another order.
        assert torch.autograd.gradcheck(function, leaves, nondet_tol=1e-12)
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@small_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_torch_func(chunk, reduction):
    x, inputs, weight, bias, _ = (t.detach() for t in operands(SHAPES["rows"]))

    def of(function):
        return lambda w, h: function(x, h, w, bias).sum()

    def fused(*given):
        return fastvae.linear_bernoulli_log_prob(*given, reduction=reduction)

    def pair(x, h, w, b):
        return bernoulli(x, F.linear(h, w, b), None, 1.0)

    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
        torch.testing.assert_close(transform(of(fused))(weight, inputs), transform(of(pair))(weight, inputs))
    batch = torch.randn(4, 5, H, dtype=torch.float64)
    mapped = [torch.func.vmap(of(f), (None, 0))(weight, batch) for f in (fused, pair)]
    torch.testing.assert_close(*mapped)
    weight.requires_grad_()
    values = [f(x, inputs, weight, bias).sum() for f in (fused, pair)]
    batched = [torch.autograd.grad(v, weight, torch.eye(2, 1).double()[:, 0], is_grads_batched=True) for v in values]
    torch.testing.assert_close(*batched)


@small_chunks
@pytest.mark.parametrize(("choice", "reduction"), [("formula", "none"), ("kernel", "none"), ("kernel", "mean")])
def test_compiles_into_one_graph(chunk, choice, reduction):
    torch._dynamo.reset()
    x, inputs, weight, bias, log_var = operands(SHAPES["samples"], torch.float32)

    def step(x, inputs, weight, bias, log_var):
        of_mean = fastvae.linear_gaussian_log_prob(x, inputs.relu(), weight, bias, log_var, reduction=reduction)
        of_logits = fastvae.linear_bernoulli_log_prob(x, inputs, weight, bias=bias, reduction=reduction)
        return of_mean.sum() + of_logits.sum()

    leaves = [inputs, weight, bias, log_var]
    with compiled.to(choice):
        call = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=True)
        value = call(x, *leaves)
        found = gradients(value, leaves, None)
    torch.testing.assert_close(found, gradients(step(x, *leaves), leaves, None))
    torch.testing.assert_close(value, step(x, *leaves))
    torch._dynamo.reset()


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(("reduction", "products"), [("mean", 3), ("none", 4)])
def test_so_many_products_in_all(reduction, products, monkeypatch):
    flops, multiply = [], _in_chunks._add_product

    def counting(place, a, b, **keywords):
        flops.append(a.shape[0] * a.shape[1] * b.shape[1])
        multiply(place, a, b, **keywords)

    monkeypatch.setattr(_in_chunks, "_add_product", counting)
    x, inputs, weight, bias, _ = operands(SHAPES["samples"])
    value = fastvae.linear_bernoulli_log_prob(x, inputs, weight, bias, reduction=reduction)
    gradients(value.sum(), [inputs, weight, bias], None)
    assert sum(flops) == products * 20 * D * H


@pytest.mark.parametrize("operator", [LINEAR_BERNOULLI_LOG_PROB, LINEAR_GAUSSIAN_LOG_PROB], ids=lambda o: o.name)
@small_chunks
def test_opcheck(operator, chunk):
    x, inputs, weight, bias, log_var = (t.detach().float() for t in operands(SHAPES["samples"]))
    further = {"linear_bernoulli_log_prob": (), "linear_gaussian_log_prob": (log_var,)}[operator.name]
    constants = [CONSTANTS[name] for name in operator.constants]
    arguments = (x, inputs, weight, bias, *further, None, *constants)
    needs = [name in ("input", "weight", "bias", "scale") for name in operator.differentiable]
    torch.library.opcheck(operator.forward.call, arguments)
    torch.library.opcheck(operator.backward.call, (torch.randn(4, 5), *arguments, needs))
    torch.library.opcheck(operator.one_pass.call, (*arguments, 0.5, needs))


class Loss(torch.nn.Module):
    def forward(self, x, inputs, weight):
        return fastvae.linear_bernoulli_log_prob(x, inputs, weight, reduction="mean")


def test_exports_with_a_dynamic_batch():
    given = torch.rand(4, D), torch.randn(4, H), torch.randn(D, H)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Loss(), given, dynamic_shapes=({0: batch}, {0: batch}, None))
    more = torch.rand(9, D), torch.randn(9, H), given[2]
    torch.testing.assert_close(program.module()(*more), Loss()(*more))


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_autocast_is_that_of_the_layer(is_compiled):
    x, leaves = wide(torch.float32)
    function = functools.partial(fastvae.linear_bernoulli_log_prob, reduction="mean")
    call = torch.compile(function, backend="aot_eager") if is_compiled else function
    with torch.autocast("cpu", torch.bfloat16):
        found = call(x, *leaves)
    wanted = function(x, *(t.bfloat16() for t in leaves))
    torch.testing.assert_close(found, wanted, rtol=1e-3 if is_compiled else 0, atol=0)  # logits may be rounded there
    assert [g.dtype for g in gradients(found, leaves, None)] == [torch.float32] * 3


def test_half_precision_on_a_gpu_is_multiplied_as_it_is():
    """By shapes and dtypes alone: meta tensors take the way of a GPU's, products into float32 and nothing converted."""
    shapes = (6, D), (2, 6, H), (D, H)
    x, inputs, weight = (torch.empty(s, dtype=torch.bfloat16, device="meta", requires_grad=True) for s in shapes)
    call = LINEAR_BERNOULLI_LOG_PROB
    arguments = (x, inputs, weight, None, None, 1.0)
    total, *grads = InChunks(call, call.one_pass.named((*arguments, 1.0, [True, True, True, False]))).one_pass(1.0)
    assert [t.dtype for t in (total, *grads[:3])] == [torch.float32] * 4
    assert [g.shape for g in grads[:3]] == [x.shape, inputs.shape, weight.shape]
    value = fastvae.linear_bernoulli_log_prob(x, inputs, weight, reduction="mean")
    assert [g.dtype for g in gradients(value, (inputs, weight), None)] == [torch.bfloat16] * 2


WRONG = {
    "weight must be": (TypeError, ((5, D), (5, H), "a list")),
    "weight is torch.float64, input torch.float32": (
        TypeError,
        ((5, D), (5, H), torch.zeros(D, H).double()),
    ),
    r"weight must be \[D, H\] and input \[..., H\], got": (ValueError, ((5, D), (5, H), torch.zeros(D, H + 1))),
    r"input @ weight.T does not broadcast .* x \[5, 8\], input @ weight.T \[5, 7\]": (
        ValueError,
        ((5, D + 1), (5, H), torch.zeros(D, H)),
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_argument(message):
    error, (x, inputs, weight) = WRONG[message]
    with pytest.raises(error, match=message):
        fastvae.linear_bernoulli_log_prob(torch.zeros(x), torch.zeros(inputs), weight)


def test_further_errors():
    given = torch.zeros(5, D), torch.zeros(5, H), torch.zeros(D, H)
    with pytest.raises(ValueError, match=r"bias must be \[D\] = \[7\], got \[3\]"):
        fastvae.linear_bernoulli_log_prob(*given, torch.zeros(H))
    with pytest.raises(ValueError, match="reduction must be one of"):
        fastvae.linear_bernoulli_log_prob(*given, reduction="all")
    with pytest.raises(TypeError, match="log_var must be a tensor, got str"):
        fastvae.linear_gaussian_log_prob(*given, log_var="optimal")


SIZES = list(itertools.product((1, 100, 6000), (1, 784, 50_000), (10, 2**18)))


@pytest.mark.parametrize(("rows", "columns", "elements"), SIZES)
def test_chunks_are_even_and_bounded(rows, columns, elements):
    least = 128
    height, width = _chunks.chunk_shape(rows, columns, elements, least)
    assert 1 <= height <= rows
    assert 1 <= width <= columns
    # Whole rows where enough of them fit; else as many as products are worth, and a few columns at least.
    assert height * width <= max(elements + height * _chunks.COLUMNS, least * _chunks.COLUMNS)
    assert width == columns or height <= least


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 5), (3, 0)])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_boxes_cover_each_row_once(shape, rows):
    seen = torch.zeros(shape)
    for box in _chunks.boxes(shape, rows):
        assert seen[box].numel() <= rows
        seen[box] += 1
    assert (seen == 1).all()


def test_the_same_bits_again():
    x, leaves = wide(torch.float32)
    first, second = (fastvae.linear_bernoulli_log_prob(x, *leaves, reduction="mean") for _ in range(2))
    assert torch.equal(first, second)
    pairs = zip(gradients(first, leaves, None), gradients(second, leaves, None), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
