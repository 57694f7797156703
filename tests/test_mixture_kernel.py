"""The mixture's kernel of the whole: that it serves, and that it gives what the walk in chunks does."""

from __future__ import annotations

import pytest
import torch

import examples
from fastvae import backends
from fastvae._shapes import accumulate_dtype
from fastvae.backends import native
from fastvae.ops import COMPOSED, _chunks
from fastvae.ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB as OPERATOR

needs_native = pytest.mark.skipif(native.why_not("cpu") is not None, reason=str(native.why_not("cpu")))

HALF_BIN = 0.5 / 255


def operands(samples=(), batch=3, components=4, channels=3, pixels=(20, 21), dtype=torch.float32):
    x = torch.randint(0, 256, (batch, channels, *pixels)) / 255
    logits = torch.randn(*samples, batch, components, *pixels)
    mean = torch.rand(*samples, batch, components, channels, *pixels)
    return [t.to(dtype) for t in (x, logits, mean, torch.randn(mean.shape) - 3)]


def results(x, logits, mean, log_scale, weight=None, x_scale=1.0):
    """Of the three operators; the gradient of x where it has one."""
    arguments = x, logits, mean, log_scale, weight, x_scale, HALF_BIN
    needs = [x.is_floating_point(), True, True, True]
    batch = logits.shape[: logits.dim() - x.dim() + 1]
    grad = torch.linspace(-1, 2, batch.numel(), dtype=accumulate_dtype(x, logits)).reshape(batch)
    return [
        OPERATOR.forward.call(*arguments),
        *OPERATOR.backward.call(grad, *arguments, needs),
        *OPERATOR.one_pass.call(*arguments, 0.5, needs),
    ]


def in_chunks(*arguments):
    with backends.use("reference"):
        return results(*arguments)


@needs_native
def test_the_kernel_serves(monkeypatch):
    def walk(*_):
        raise AssertionError("chunks")

    monkeypatch.setattr(_chunks, "boxes", walk)
    results(*operands())
    with pytest.raises(AssertionError, match="chunks"):
        in_chunks(*operands())


def strided(t):
    return t.repeat_interleave(2, -1)[..., ::2]


def pixels_first(t):
    return t.movedim((-2, -1), (0, 1)).contiguous().movedim((0, 1), (-2, -1))


# Of one tile and of several, of rows that share a tile, and of vectors' tails.
CASES = {
    "images": lambda: operands(),
    "samples": lambda: operands((2, 3), pixels=(5,)),
    "no pixels": lambda: operands(batch=70, pixels=()),
    "many parts": lambda: operands(batch=1, components=10, pixels=(40009,)),
    "one channel": lambda: operands(batch=1, components=1, channels=1, pixels=(700,)),
    "no samples": lambda: operands((0,), pixels=(3,)),
    "no pixels at all": lambda: operands(pixels=(0,)),
    "float64": lambda: operands(pixels=(3, 5), dtype=torch.float64),
    "strided": lambda: [*map(strided, operands()), torch.rand(3, 20, 21)],
    "pixels first": lambda: [
        *map(pixels_first, operands((2,), pixels=(3, 5))),
        torch.rand(2, 3, 1, 5).expand(2, 3, 3, 5),
    ],
    "a mask": lambda: [*operands(pixels=(3, 5)), torch.rand(3, 3, 5) > 0.3],
    "one weight": lambda: [*operands(pixels=(3, 5)), torch.tensor(0.3).expand(3, 3, 5)],
    "bytes and halves": lambda: [
        *(
            t.to(d)
            for t, d in zip(operands(), (torch.uint8, torch.float32, torch.bfloat16, torch.float16), strict=True)
        ),
        None,
        1 / 255,
    ],
}
# Of the largest element, or of 1, since a gradient of logits is a difference of probabilities: some ten roundings each,
# and of half precision the result's. Sums are in other orders.
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-14, torch.bfloat16: 2**-8, torch.float16: 2**-10}


def assert_agree(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)
        largest = max(1.0, b.abs().max().item()) if b.numel() > 0 else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCE[b.dtype] * largest)


@needs_native
@pytest.mark.parametrize("case", CASES)
def test_kernel_and_chunks_agree(case):
    arguments = CASES[case]()
    assert_agree(results(*arguments), in_chunks(*arguments))


@needs_native
def test_bits_depend_on_neither_threads_nor_layout():
    arguments = operands((2,), batch=5)
    wanted = results(*arguments)
    torch.set_num_threads(2)
    for again in (results(*arguments), results(*map(strided, arguments)), results(*map(pixels_first, arguments))):
        assert all(map(torch.equal, again, wanted))


def test_every_backend_agrees_with_plain_torch(backend):
    for name, arguments in examples.mixture_arguments():
        found = COMPOSED[name].call(*arguments)
        with backends.use("reference"):
            wanted = COMPOSED[name].call(*arguments)
        assert_agree(examples.several(found), examples.several(wanted))


@pytest.mark.not_interpreted
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float32])
def test_is_as_accurate_as_float64(dtype):
    single = operands(pixels=(7, 9), dtype=dtype)
    wanted = in_chunks(*(t.double() for t in single))
    for found, truth in zip(results(*single), wanted, strict=True):
        largest = max(1.0, truth.abs().max().item())
        torch.testing.assert_close(found.double(), truth, rtol=0, atol=TOLERANCE[dtype] * largest)
