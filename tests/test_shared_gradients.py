"""Gradients of what several rows or elements share: summed by the operator, in the parameter's shape."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch

import examples
import fastvae
from fastvae._shapes import is_shared_by_event
from fastvae.ops import OPERATORS

pytestmark = pytest.mark.usefixtures("backend")

TOLERANCE = 1e-6  # of the sum of magnitudes, for sums in float32: a few roundings of each term
OF_COUNTS = 3e-6  # whose terms are made of some forty operations: right to 4 bits, as test_counts has it


COUNTS = ("poisson_log_prob", "negative_binomial_log_prob", "zero_inflated_negative_binomial_log_prob")


class Pattern(NamedTuple):
    shape: tuple[int, ...]
    shared: tuple[int, ...]  # of an operand
    event_ndim: int


PATTERNS = {
    "[D]": Pattern((5, 6), (6,), 1),
    "[1, D]": Pattern((5, 6), (1, 6), 1),
    "[D], long rows": Pattern((3, 1100), (1100,), 1),
    "[D] of samples": Pattern((3, 4, 6), (6,), 1),
    "[1, B, D] of samples": Pattern((3, 4, 6), (1, 4, 6), 1),
    "[B, D] of samples": Pattern((3, 4, 6), (4, 6), 1),
    "[K, 1, D] of samples": Pattern((3, 4, 6), (3, 1, 6), 1),
    "[D], two dimensions summed": Pattern((3, 4, 6), (6,), 2),
    "[D], nothing summed": Pattern((5, 6), (6,), 0),
    "[B, 1], nothing summed": Pattern((5, 6), (5, 1), 0),
    "[], nothing summed": Pattern((5, 6), (), 0),
    "[D], one dimension": Pattern((6,), (1,), 0),
    "[1, C, 1, 1]": Pattern((4, 3, 5, 7), (1, 3, 1, 1), 3),
    "[C, 1, 1]": Pattern((4, 3, 5, 7), (3, 1, 1), 3),
    "[H, W]": Pattern((4, 3, 5, 7), (5, 7), 3),
    "[W]": Pattern((4, 3, 5, 7), (7,), 3),
    "[C, 1, W]": Pattern((4, 3, 5, 7), (3, 1, 7), 3),
    "[B, C, 1, 1]": Pattern((4, 3, 5, 7), (4, 3, 1, 1), 3),
    "[B, 1, 1, 1]": Pattern((4, 3, 5, 7), (4, 1, 1, 1), 3),
    "[1, C, 1, 1], rows of one dimension": Pattern((4, 3, 5, 7), (1, 3, 1, 1), 1),
    "[]": Pattern((5, 6), (), 1),
    "[1, 1]": Pattern((5, 6), (1, 1), 1),
    "no rows": Pattern((0, 6), (6,), 1),
    "no columns": Pattern((5, 0), (1,), 0),
}
# Those of them that take another path in Triton.
FEW = ("[D]", "[D], long rows", "[B, D] of samples", "[D], nothing summed", "[1, C, 1, 1]", "no rows")


def keywords_of(operator, pattern):
    return {"event_ndim": pattern.event_ndim} if "event_ndim" in examples.EXAMPLES[operator.name].keywords else {}


def made(operator, shapes, dtype=torch.float32):
    """Operands; those that get gradients require them."""
    named = zip(operator.operands, shapes, strict=True)
    return [examples.operand(operator, n, s).to(dtype).requires_grad_(n in operator.differentiable) for n, s in named]


def shapes_of(operator, pattern):
    """Each operand shared in turn, then all but the first; a log-likelihood alone is never fewer numbers than a KL."""
    count = len(operator.operands)
    for i in range(1 if operator.operands[0] == "log_px" else 0, count):
        yield [pattern.shared if i == k else pattern.shape for k in range(count)]
    yield [pattern.shared if k else pattern.shape for k in range(count)]


def gradients(call, operands):
    """With cotangents that are different for each value of a result, and cancel in no sum of results."""
    results = [result for result in examples.several(call(*operands)) if result.requires_grad]
    leaves = [operand for operand in operands if operand.requires_grad]
    return torch.autograd.grad(results, leaves, [cotangent(r) / 8**i for i, r in enumerate(results)])


def cotangent(result):
    count = max(result.numel(), 1)
    return torch.linspace(0.5, 1.5, count, dtype=result.dtype)[: result.numel()].reshape(result.shape)


class Call:
    """An operator's example with keywords of its own."""

    def __init__(self, operator, **keywords):
        self.operator, self.keywords = operator, keywords

    def __call__(self, *operands):
        return examples.EXAMPLES[self.operator.name].call(*operands, **self.keywords)

    def shapes(self, shape):
        """Of operands that nothing shares; `beta` is one number, and no operand of elements."""
        return [() if name == "beta" else shape for name in self.operator.operands]


def check(call, operands, shape, tolerance=TOLERANCE):
    """Against gradients at the full shape, summed in float64."""
    full = [o.detach().double().expand(s).clone() for o, s in zip(operands, call.shapes(shape), strict=True)]
    wanted = gradients(call, [f.requires_grad_(o.requires_grad) for f, o in zip(full, operands, strict=True)])
    leaves = [operand for operand in operands if operand.requires_grad]
    for found, terms, operand in zip(gradients(call, operands), wanted, leaves, strict=True):
        assert (found.shape, found.dtype) == (operand.shape, operand.dtype)
        if terms.shape != shape:
            continue
        if call.operator.name in COUNTS:
            tolerance = max(tolerance, OF_COUNTS)
        # A small term may be the difference of large ones.
        magnitudes = terms.abs() + (terms.abs().mean() if terms.numel() else 0)
        error = (found.double() - terms.sum_to_size(operand.shape)).abs()
        assert (error <= tolerance * magnitudes.sum_to_size(operand.shape)).all()


@pytest.mark.interpreted(where=lambda pattern: pattern in FEW)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", examples.one_of_a_kind(OPERATORS))
def test_gradients_of_what_is_shared(name, pattern, backend):
    examples.skip_without_kernel(name, backend)
    operator, pattern = OPERATORS[name], PATTERNS[pattern]
    for shapes in shapes_of(operator, pattern):
        check(Call(operator, **keywords_of(operator, pattern)), made(operator, shapes), pattern.shape)


TWO = {  # shape, what one operand shares and what the others do
    "rows and columns": ((5, 6), (5, 1), (6,)),
    "channels and pixels": ((4, 3, 5, 7), (1, 3, 1, 1), (5, 7)),
    "samples and columns": ((3, 4, 6), (3, 1, 6), (4, 6)),
    "images and channels": ((4, 3, 5, 7), (4, 1, 5, 7), (3, 1, 1)),
    "everything and columns": ((5, 6), (), (6,)),
}


@pytest.mark.interpreted(where=lambda pattern: pattern == "rows and columns")
@pytest.mark.parametrize("pattern", TWO)
@pytest.mark.parametrize("event_ndim", [0, 1])
@pytest.mark.parametrize("name", ["gaussian_log_prob", "kl_normal"])
def test_two_ways_to_share_at_once(name, event_ndim, pattern, backend):
    examples.skip_without_kernel(name, backend)
    operator, (shape, one, others) = OPERATORS[name], TWO[pattern]
    for i in range(1, len(operator.operands)):
        shapes = [shape, *(one if k == i else others for k in range(1, len(operator.operands)))]
        check(Call(operator, event_ndim=event_ndim), made(operator, shapes), shape)


# --- what surrounds a formula ---


@pytest.mark.interpreted(where=lambda pattern: pattern in ("[D]", "[1, C, 1, 1]"))
@pytest.mark.parametrize("pattern", ["[D]", "[B, D] of samples", "[1, C, 1, 1]", "[H, W]", "[D], nothing summed"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", examples.one_of_a_kind(examples.LIKELIHOODS))
def test_reductions(name, reduction, pattern, backend):
    examples.skip_without_kernel(name, backend)
    operator, pattern = OPERATORS[name], PATTERNS[pattern]
    for shapes in shapes_of(operator, pattern):
        call = Call(operator, event_ndim=pattern.event_ndim, reduction=reduction)
        check(call, made(operator, shapes), pattern.shape)


@pytest.mark.interpreted(where=lambda pattern: pattern == "[D]")
@pytest.mark.parametrize("pattern", ["[D]", "[K, 1, D] of samples", "[1, C, 1, 1]", "[C, 1, W]"])
@pytest.mark.parametrize("keyword", ["mask", "weight"])
@pytest.mark.parametrize("name", examples.one_of_a_kind(examples.LIKELIHOODS))
def test_masks_and_weights(name, keyword, pattern, backend):
    examples.skip_without_kernel(name, backend)
    operator, pattern = OPERATORS[name], PATTERNS[pattern]
    for weight in (
        torch.rand(pattern.shape) - 0.4,
        torch.rand(pattern.shape[0], *[1] * (len(pattern.shape) - 1)) - 0.4,
    ):
        given = {keyword: weight > 0 if keyword == "mask" else weight.clamp(min=0)}
        operands = made(operator, shapes_with_all_but_the_first_shared(operator, pattern))
        check(Call(operator, event_ndim=pattern.event_ndim, **given), operands, pattern.shape)


def shapes_with_all_but_the_first_shared(operator, pattern):
    return [pattern.shared if i else pattern.shape for i in range(len(operator.operands))]


def test_what_is_masked_adds_nothing():
    x, log_var = torch.rand(4, 6), torch.zeros(6, requires_grad=True)
    mask = torch.ones(4, 6, dtype=torch.bool)
    x[1, 2], mask[1, 2] = torch.nan, False
    (grad,) = torch.autograd.grad(fastvae.gaussian_log_prob(x, torch.zeros(4, 6), log_var, mask=mask).sum(), log_var)
    torch.testing.assert_close(grad, ((x.double() ** 2 - 1) / 2).nansum(0).float())


def test_infinity_and_nan_come_through_where_they_are():
    x, log_var = torch.ones(4, 6), torch.zeros(6, requires_grad=True)
    x[1, 2], x[2, 3] = torch.inf, torch.nan
    (grad,) = torch.autograd.grad(fastvae.gaussian_log_prob(x, torch.zeros(4, 6), log_var).sum(), log_var)
    torch.testing.assert_close(grad, torch.tensor([0, 0, torch.inf, torch.nan, 0, 0]), equal_nan=True)


@pytest.mark.parametrize("shared", [(6,), (1, 6), (4, 1), ()])
@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.samples])
def test_samples(name, shared, backend):
    examples.skip_without_kernel(name, backend)
    operator = OPERATORS[name]
    keywords = {"num_samples": 3} if "num_samples" in operator.constants else examples.EXAMPLES[name].keywords
    for shapes in shapes_of(operator, Pattern((4, 6), shared, 1)):
        check(Call(operator, **keywords), made(operator, shapes), (4, 6))


# float16 and bfloat16 round the sum once.
@pytest.mark.interpreted(where=lambda pattern: pattern == "[D]")
@pytest.mark.parametrize("pattern", ["[D]", "[B, D] of samples", "[1, C, 1, 1]"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-10), (torch.float64, 1e-13)], ids=str
)
def test_dtypes(dtype, tolerance, pattern):
    operator, pattern = OPERATORS["gaussian_log_prob"], PATTERNS[pattern]
    x, mean, log_var = made(operator, [pattern.shape, pattern.shape, pattern.shared])
    operands = [x, mean, log_var.detach().to(dtype).requires_grad_()]
    check(Call(operator, event_ndim=pattern.event_ndim), operands, pattern.shape, max(tolerance, TOLERANCE))
    in_one = [o.detach().to(dtype).requires_grad_() for o in operands]
    check(Call(operator, event_ndim=pattern.event_ndim), in_one, pattern.shape, tolerance)


def strided(tensor):
    """The same values in other memory."""
    wide = torch.empty(*tensor.shape[:-1], 2 * tensor.shape[-1])
    wide[..., ::2] = tensor
    yield wide[..., ::2]
    yield tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if tensor.dim() == 4:
        yield tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.interpreted(where=lambda pattern: pattern == "[1, C, 1, 1]")
@pytest.mark.parametrize("pattern", ["[D]", "[B, D] of samples", "[1, C, 1, 1]", "[H, W]", "[B, C, 1, 1]"])
def test_strides(pattern):
    operator, pattern = OPERATORS["gaussian_log_prob"], PATTERNS[pattern]
    x, mean, log_var = (o.detach() for o in made(operator, [pattern.shape, pattern.shape, pattern.shared]))
    for x_there, mean_there in itertools.product(strided(x), strided(mean)):
        leaves = [t.detach().requires_grad_() for t in (x_there, mean_there, log_var)]
        check(Call(operator, event_ndim=pattern.event_ndim), leaves, pattern.shape)


# --- the contract ---


@pytest.mark.interpreted(where=lambda pattern: pattern in FEW)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", examples.one_of_a_kind(OPERATORS))
def test_operators_give_what_is_shared_in_its_own_shape(name, pattern, backend):
    examples.skip_without_kernel(name, backend)
    operator, pattern = OPERATORS[name], PATTERNS[pattern]
    operands = made(operator, shapes_with_all_but_the_first_shared(operator, pattern))
    tensors = {key: o.detach() for key, o in zip(operator.operands, operands, strict=True)}
    noise = {"seed": torch.tensor(3)} if operator.samples else {}
    given = {**tensors, **noise, "event_ndim": pattern.event_ndim}
    events = pattern.event_ndim if "event_ndim" in operator.constants else 0
    for contract in operator.contracts[1:]:
        results = examples.several(contract.call(*examples.contract_arguments(operator, contract, given)))
        of_shared = [o for o in operands[1:] if o.requires_grad]
        for grad, operand in zip(results[-len(of_shared) :], of_shared, strict=True):
            assert grad.dtype == torch.float32
            if not is_shared_by_event(operand, events if contract is operator.backward else len(pattern.shape)):
                assert grad.shape == (*[1] * (len(pattern.shape) - operand.dim()), *operand.shape)


@pytest.mark.parametrize("event_ndim", [0, 1])
def test_opcheck(event_ndim, backend):
    operator = OPERATORS["gaussian_log_prob"]
    for pattern in (PATTERNS[name] for name in FEW[:3]):
        x, mean, log_var = (o.detach() for o in made(operator, [pattern.shape, pattern.shape, pattern.shared]))
        given = {"x": x, "mean": mean, "scale": log_var, "event_ndim": event_ndim}
        for contract in operator.contracts[1:]:
            torch.library.opcheck(contract.call, examples.contract_arguments(operator, contract, given))


def test_each_mapped_index_has_a_gradient_of_its_own():
    x, mean, log_var = torch.rand(3, 4, 6), torch.randn(3, 4, 6), torch.randn(6)

    def loss(x, mean, log_var):
        return fastvae.gaussian_log_prob(x, mean, log_var).sum()

    gradient = torch.func.grad(loss, (1, 2))
    found = torch.func.vmap(gradient, (0, 0, None))(x, mean, log_var)
    wanted = [gradient(*each, log_var) for each in zip(x, mean, strict=True)]
    for all_at_once, one_by_one in zip(found, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(all_at_once, torch.stack(one_by_one))


def test_second_derivatives():
    x, mean, log_var = torch.rand(3, 4).double(), torch.randn(3, 4).double(), torch.randn(4).double()
    operands = [mean.requires_grad_(), log_var.requires_grad_()]
    assert torch.autograd.gradgradcheck(lambda *p: fastvae.gaussian_log_prob(x, *p), operands)


# --- sums ---


@pytest.mark.not_interpreted
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("shape", [(100_000, 3), (2, 50_000, 3), (40, 3, 50, 50)])
def test_many_terms_are_added_as_accurately_as_few(shape, reduction):
    shared, event_ndim = ((3, 1, 1), 3) if len(shape) == 4 else ((3,), 1)
    x, log_var = 3 + torch.rand(shape), torch.zeros(shared, requires_grad=True)  # terms of one sign
    value = fastvae.gaussian_log_prob(x, torch.zeros(shape), log_var, event_ndim=event_ndim, reduction=reduction)
    (grad,) = torch.autograd.grad(value.sum(), log_var)
    terms = (x.double() ** 2 - 1) / 2
    torch.testing.assert_close(grad.double(), terms.sum_to_size(shared), rtol=TOLERANCE, atol=0)


# Many rows, wide ones, channels; copies, chunks and rows of a dimension behind another that is summed.
LARGE = [
    ((20_000, 20), (20,)),
    ((512, 784), (784,)),
    ((3, 70_001), (70_001,)),
    ((4, 3, 120, 120), (1, 3, 1, 1)),
    ((4, 3, 120, 120), (1, 1, 120, 120)),
    ((5, 3000, 20), (3000, 20)),
    ((5, 3000, 20), (5, 1, 20)),
    ((3000, 5, 20), (1, 5, 1)),
]


@pytest.mark.not_interpreted
@pytest.mark.parametrize(("shape", "shared"), LARGE)
def test_threads_do_not_change_a_bit(shape, shared):
    x, mean, log_var = torch.rand(shape), torch.randn(shape), torch.randn(shared)

    def run():
        leaves = [mean.requires_grad_(), log_var.requires_grad_()]
        results = []
        for event_ndim, reduction in itertools.product((0, 1, len(shape) - 1), ("none", "sum")):
            value = fastvae.gaussian_log_prob(x, *leaves, event_ndim=event_ndim, reduction=reduction)
            results += [value.detach(), *torch.autograd.grad(value.sum(), leaves)]
        return results

    wanted = run()
    torch.set_num_threads(2)
    assert all(torch.equal(result, expected) for result, expected in zip(run(), wanted, strict=True))


@pytest.mark.not_interpreted
@pytest.mark.parametrize(("shape", "shared"), LARGE)
def test_large_sums(shape, shared):
    operator = OPERATORS["gaussian_log_prob"]
    for event_ndim in {0, 1, len(shape) - 1}:
        check(Call(operator, event_ndim=event_ndim), made(operator, [shape, shape, shared]), shape)
    check(Call(operator, event_ndim=1, reduction="sum"), made(operator, [shape, shape, shared]), shape)
