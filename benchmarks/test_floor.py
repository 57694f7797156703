"""What bounds the small and the large cases on this machine, whatever computes them."""

from __future__ import annotations

import pytest
import torch

from .measure import measure

COPY_BYTES = 256 * 2**20
SMALL = (128, 20)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad


@pytest.fixture
def floor(benchmark, record, budget):
    def run(name, call, describe) -> None:
        call()
        if benchmark.disabled:
            return
        sample = measure({name: call}, budget)[name]
        record(name, "floor", sample, {"floor": describe(sample.median)})

    return run


# One operation through the same calls as a case: a function of Python's, as fastvae's are, and one of torch's own.
SINGLE = {"an autograd.Function that does nothing": Identity.apply, "torch.neg": torch.neg}


@pytest.mark.parametrize("name", SINGLE)
def test_engine(floor, name):
    """torch's share of the smallest cases."""
    function = SINGLE[name]
    x, grads = torch.randn(SMALL, requires_grad=True), [torch.randn(SMALL)]

    def forward_backward():
        x.grad = None
        torch.autograd.backward((function(x),), grads)

    what = f"forward + backward of {name}, fp32 {SMALL[0]}x{SMALL[1]}"
    floor(name, forward_backward, lambda seconds: f"{what}: {seconds * 1e6:.1f} us")


def test_copy(floor):
    source = torch.rand(COPY_BYTES // 4)
    target = torch.rand_like(source)
    what = "copy of 256 MiB, bytes read + written"
    floor("copy", lambda: target.copy_(source), lambda seconds: f"{what}: {2e-9 * COPY_BYTES / seconds:.1f} GB/s")
