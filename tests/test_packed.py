"""Mean and scale that lie packed in one tensor: their gradients are written where they lie."""

import pytest
import torch

from fastvae.ops.posterior import RSAMPLE_KL, RSAMPLE_KL_PACKED

BACKWARD, HALVES = RSAMPLE_KL_PACKED.backward, RSAMPLE_KL_PACKED.in_halves


def arguments(shape, dim, dtype=torch.float32, layout=torch.contiguous_format):
    """Of the backward; some scales lie outside the clamp."""
    packed = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    mean = packed.chunk(2, dim)[0]
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    grads = (torch.randn_like(mean), torch.randn(shape[0], dtype=sums))
    return *grads, packed, torch.tensor(5), None, dim, len(shape) - 1, 0.0, "log_var", 0.0, -1.0, 1.0


LAYOUTS = {
    "rows": arguments((3, 10), 1),
    "images": arguments((2, 6, 4, 5), 1, torch.bfloat16),
    "channels last": arguments((2, 6, 4, 5), 1, layout=torch.channels_last),
    "last dimension": arguments((2, 3, 8), 2, torch.float64),
    "long rows": arguments((2, 2, 9000), 1),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_gradient_is_that_of_the_halves_in_one_tensor(case):
    """To the bit: the same kernel, that writes to other places. Its layout is the operand's."""
    given = LAYOUTS[case]
    grad, packed = BACKWARD.call(*given), given[2]
    assert torch.equal(grad, HALVES(RSAMPLE_KL.backward.call)(*given))
    assert (grad.dtype, grad.stride()) == (packed.dtype, packed.stride())
    torch.library.opcheck(BACKWARD.call, given)


@pytest.mark.parametrize("absent", [0, 1])
def test_a_gradient_that_does_not_arrive_counts_as_zero(absent):
    given = list(LAYOUTS["rows"])
    zero, given[absent] = torch.zeros_like(given[absent]), None
    found = BACKWARD.call(*given)
    given[absent] = zero
    torch.testing.assert_close(found, BACKWARD.call(*given), rtol=0, atol=0)
    assert found.abs().sum() > 0
