"""A linear layer with a likelihood of rows, against torch's own of the whole output in float64; few rows a chunk."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.nn.functional as F

import fastvae
from fastvae.backends import compiled
from fastvae.ops import _chunks, _in_chunks
from fastvae.ops.linear import LINEAR_CATEGORICAL_LOG_PROB, LINEAR_MULTINOMIAL_LOG_PROB

H, D = 3, 7


# Rows of a chunk, and of a part of it.
CHUNKS = {"one chunk in parts": (64, 3), "chunks": (2, 2), "chunks in parts": (4, 2)}


@pytest.fixture(params=CHUNKS)
def chunk(request, monkeypatch):
    of_chunk(monkeypatch, *CHUNKS[request.param])


def of_chunk(monkeypatch, rows, part_rows):
    monkeypatch.setattr(_chunks, "on", lambda device, dtype, of_rows, columns, whole: (min(rows, of_rows), columns))
    monkeypatch.setattr(_chunks, "rows_in_cache", lambda *_: part_rows)


small_chunks = pytest.mark.parametrize("chunk", ["chunks in parts"], indirect=True)


def multinomial(x, logits, rows=1.0):
    factorials = (x.sum(-1) + 1).lgamma() - (x + 1).lgamma().sum(-1)
    return ((x * logits.log_softmax(-1)).sum(-1) + factorials) * rows


def categorical(x, logits, rows=1.0):
    one_hot = F.one_hot(x.long(), D).to(logits.dtype)
    return (one_hot * logits.log_softmax(-1)).sum(-1) * rows


HEADS = {
    "multinomial": (fastvae.linear_multinomial_log_prob, multinomial),
    "categorical": (fastvae.linear_categorical_log_prob, categorical),
}
heads = pytest.mark.parametrize("head", HEADS)
# Of the rows of x, and of input.
SHAPES = {
    "rows": ((5,), (5, H)),
    "samples": ((5,), (4, 5, H)),
    "x of samples": ((4, 5), (5, H)),
    "one row": ((), (H,)),
    "a middle axis is shared": ((2, 1), (1, 4, H)),
    "nothing": ((0,), (0, H)),
}


def operands(head, shapes, dtype=torch.float64):
    rows, inputs = shapes
    x = torch.randint(0, D, rows) if head == "categorical" else torch.randint(0, 9, (*rows, D)).to(dtype)
    return x, [t.to(dtype).requires_grad_() for t in (torch.randn(inputs), torch.randn(D, H), torch.randn(D))]


def of_pair(truth, x, layer, rows=1.0, reduction="none"):
    log_prob = truth(x, F.linear(*layer), rows)
    return {"none": lambda t: t, "sum": torch.sum, "mean": torch.mean}[reduction](log_prob)


def gradients(value, leaves, upstream=None):
    return torch.autograd.grad(value, leaves, upstream)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shapes", SHAPES)
@heads
def test_equals_the_layer_and_its_likelihood(head, shapes, reduction):
    function, truth = HEADS[head]
    x, layer = operands(head, SHAPES[shapes])
    found = function(x, *layer, reduction=reduction)
    wanted = of_pair(truth, x, layer, reduction=reduction)
    if reduction == "mean" and shapes == "nothing":
        assert found == 0  # the mean of nothing
        return
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(function(x, *layer, reduction=reduction), wanted, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(wanted)
    torch.testing.assert_close(
        gradients(found, layer, upstream), gradients(wanted, layer, upstream), rtol=1e-12, atol=1e-12
    )


@pytest.mark.usefixtures("backend")
@small_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
@heads
def test_masks_and_no_bias_on_every_backend(chunk, head, reduction):
    function, truth = HEADS[head]
    x, (inputs, weight, _) = operands(head, SHAPES["samples"], torch.float32)
    mask, rows = torch.rand(5) > 0.4, torch.rand(4, 1)
    found = function(x, inputs, weight, reduction=reduction, mask=mask, element_weight=rows)
    doubles = [t.detach().double().requires_grad_() for t in (inputs, weight)]
    x = x.double() if head == "multinomial" else x
    wanted = of_pair(truth, x, [*doubles, None], (mask * rows).double(), reduction)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)
    upstream = torch.randn_like(found)
    pairs = zip(
        gradients(found, [inputs, weight], upstream), gradients(wanted, doubles, upstream.double()), strict=True
    )
    for a, b in pairs:
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def test_what_is_masked_may_be_nan():
    x, weight = torch.full((2, D), math.nan), torch.randn(D, H, requires_grad=True)
    mask = torch.zeros((), dtype=torch.bool)
    value = fastvae.linear_multinomial_log_prob(x, torch.randn(2, H), weight, reduction="sum", mask=mask)
    value.backward()
    assert value == 0
    assert not weight.grad.any()


def test_integer_counts_and_no_factorials():
    x, layer = operands("multinomial", SHAPES["rows"])
    found = fastvae.linear_multinomial_log_prob(x.to(torch.int16), *layer, normalized=False)
    torch.testing.assert_close(found, (x * F.linear(*layer).log_softmax(-1)).sum(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_weight_of_rows_gets_a_gradient(reduction):
    x, layer = operands("multinomial", SHAPES["samples"])
    rows = torch.rand(5, dtype=torch.float64, requires_grad=True)
    found = fastvae.linear_multinomial_log_prob(x, *layer, element_weight=rows, reduction=reduction).sum()
    wanted = of_pair(multinomial, x, layer, rows, reduction).sum()
    torch.testing.assert_close(gradients(found, [rows, *layer]), gradients(wanted, [rows, *layer]))


def wide(dtype):
    x = torch.randint(0, 3, (700, 60)).float()
    layer = torch.randn(700, 40), torch.randn(60, 40) / 6, torch.randn(60) / 10
    return x, [t.to(dtype).requires_grad_() for t in layer]


def errors(function, x, layer):
    """Of gradients, by the norm, against float64 on the same operands; and those of the truth rounded once."""
    doubles = [t.detach().double().requires_grad_() for t in layer]
    wanted = gradients(of_pair(multinomial, x.double(), doubles, reduction="sum"), doubles)
    found = gradients(function(x, *layer), layer)

    def error(a, b):
        return float((a.double() - b).norm() / b.norm())

    rounded = (b.to(t.dtype) for t, b in zip(layer, wanted, strict=True))
    return list(map(error, found, wanted)), list(map(error, rounded, wanted))


def eager(x, *layer):
    return of_pair(multinomial, x, layer, reduction="sum")


def test_no_less_accurate_than_the_pair(monkeypatch):
    of_chunk(monkeypatch, 100, 40)
    x, layer = wide(torch.float32)
    fused, _ = errors(functools.partial(fastvae.linear_multinomial_log_prob, reduction="sum"), x, layer)
    pair, _ = errors(eager, x, layer)
    # Sums are ordered otherwise: a half more, or a tenth of a rounding, is no loss.
    assert all(a <= 1.5 * b + 1e-8 for a, b in zip(fused, pair, strict=True))


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_gradients_in_bfloat16_are_rounded_once(reduction, monkeypatch):
    of_chunk(monkeypatch, 100, 40)
    x, layer = wide(torch.bfloat16)
    fused, rounded = errors(lambda *a: fastvae.linear_multinomial_log_prob(*a, reduction=reduction).sum(), x, layer)
    pair, _ = errors(eager, x, layer)
    assert all(a <= 1.01 * b for a, b in zip(fused, rounded, strict=True))
    assert fused[1] < pair[1]


@small_chunks
@heads
def test_first_and_second_derivatives(chunk, head):
    x, layer = operands(head, ((2,), (2, 2, H)))
    for reduction in ("none", "mean"):
        function = lambda *given, r=reduction: HEADS[head][0](x, *given, reduction=r)  # noqa: E731
        # A first backward has the gradients that were made ahead, a second one makes them anew, in another order.
        assert torch.autograd.gradcheck(function, layer, nondet_tol=1e-12)
        assert torch.autograd.gradgradcheck(function, layer, fast_mode=True)


@small_chunks
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_torch_func(chunk, reduction):
    x, (inputs, weight, bias) = operands("multinomial", SHAPES["x of samples"])
    inputs, weight, bias = inputs.detach(), weight.detach(), bias.detach()
    fused = lambda w, h: fastvae.linear_multinomial_log_prob(x, h, w, bias, reduction=reduction).sum()  # noqa: E731
    pair = lambda w, h: multinomial(x, F.linear(h, w, bias)).sum()  # noqa: E731
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
        torch.testing.assert_close(transform(fused)(weight, inputs), transform(pair)(weight, inputs))
    batch = torch.randn(3, 5, H, dtype=torch.float64)
    torch.testing.assert_close(*(torch.func.vmap(f, (None, 0))(weight, batch) for f in (fused, pair)))


@small_chunks
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_compiles_into_one_graph(chunk, reduction):
    torch._dynamo.reset()
    x, layer = operands("multinomial", SHAPES["samples"], torch.float32)
    index, _ = operands("categorical", SHAPES["samples"])

    def step(x, inputs, weight, bias):
        of_counts = fastvae.linear_multinomial_log_prob(x, inputs.relu(), weight, bias, reduction=reduction)
        return of_counts.sum() + fastvae.linear_categorical_log_prob(index, inputs, weight, reduction=reduction).sum()

    with compiled.to("kernel"):
        value = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=True)(x, *layer)
        found = gradients(value, layer)
    torch.testing.assert_close(found, gradients(step(x, *layer), layer))
    torch.testing.assert_close(value, step(x, *layer))
    torch._dynamo.reset()


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(("reduction", "products"), [("mean", 3), ("none", 4)])
def test_so_many_products_in_all(reduction, products, monkeypatch):
    flops, multiply = [], _in_chunks._add_product

    def counting(place, a, b, **keywords):
        flops.append(a.shape[0] * a.shape[1] * b.shape[1])
        multiply(place, a, b, **keywords)

    monkeypatch.setattr(_in_chunks, "_add_product", counting)
    x, layer = operands("multinomial", SHAPES["samples"])
    gradients(fastvae.linear_multinomial_log_prob(x, *layer, reduction=reduction).sum(), layer)
    assert sum(flops) == products * 20 * D * H


@pytest.mark.parametrize("operator", [LINEAR_MULTINOMIAL_LOG_PROB, LINEAR_CATEGORICAL_LOG_PROB], ids=lambda o: o.name)
@small_chunks
def test_opcheck(operator, chunk):
    head = operator.likelihood.name.removesuffix("_log_prob")
    x, layer = operands(head, SHAPES["samples"], torch.float32)
    x = x.unsqueeze(-1) if head == "categorical" else x
    arguments = (x, *(t.detach() for t in layer), None, *(True for _ in operator.constants))
    torch.library.opcheck(operator.forward.call, arguments)
    torch.library.opcheck(operator.backward.call, (torch.randn(4, 5), *arguments, [True, True, False]))
    torch.library.opcheck(operator.one_pass.call, (*arguments, 0.5, [True, True, False]))


class Loss(torch.nn.Module):
    def forward(self, x, inputs, weight):
        return fastvae.linear_multinomial_log_prob(x, inputs, weight, reduction="mean")


def test_exports_with_a_dynamic_batch():
    given = torch.ones(4, D), torch.randn(4, H), torch.randn(D, H)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Loss(), given, dynamic_shapes=({0: batch}, {0: batch}, None))
    more = torch.ones(9, D), torch.randn(9, H), given[2]
    torch.testing.assert_close(program.module()(*more), Loss()(*more))


WRONG = {
    r"last dimension of x and of input @ weight.T must be the same classes, got x \[5, 1\]": ((5, 1), (5, H), (D, H)),
    r"weight must be \[D, H\] and input \[..., H\], got": ((5, D), (5, H), (D, H + 1)),
    r"input @ weight.T does not broadcast .* x \[4, 7\], input @ weight.T \[5, 7\]": ((4, D), (5, H), (D, H)),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_argument(message):
    with pytest.raises(ValueError, match=message):
        fastvae.linear_multinomial_log_prob(*map(torch.zeros, WRONG[message]))


def test_errors_of_indices_and_of_a_weight():
    layer = torch.zeros(5, H), torch.zeros(D, H)
    with pytest.raises(TypeError, match=r"x must be torch.int16 or .*, got torch.float32"):
        fastvae.linear_categorical_log_prob(torch.zeros(5), *layer)
    with pytest.raises(ValueError, match=r"x \[\*batch\] does not broadcast .* x \[4\], input @ weight.T \[5, 7\]"):
        fastvae.linear_categorical_log_prob(torch.zeros(4, dtype=torch.int64), *layer)
    with pytest.raises(ValueError, match=r"weight \[7\] does not broadcast to the elements' shape \[5\]"):
        fastvae.linear_multinomial_log_prob(torch.zeros(5, D), *layer, element_weight=torch.zeros(D))


@pytest.mark.parametrize("rows", [1, 100, 6000])
@pytest.mark.parametrize("columns", [1, 784, 50_000])
def test_rows_of_a_chunk_are_whole_and_bounded(rows, columns):
    device = torch.device("cpu")
    height, width = _chunks.on(device, torch.float32, rows, columns, whole_rows=True)
    assert width == columns
    assert 1 <= height <= rows
    part_rows = _chunks.rows_in_cache(device, torch.float32, columns)
    assert part_rows == 1 or part_rows * columns <= _chunks.chunk_elements(device, torch.float32)
    assert height <= max(part_rows, _chunks.rule(device).least_rows)
