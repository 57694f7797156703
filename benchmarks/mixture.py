"""A mixture of ten discretized logistics, forward + backward, against PixelCNN++'s expression, eager and compiled.

    python -m benchmarks.mixture --rounds 7 --threads 2

prints a table as `benchmarks.heads` does. PixelCNN++'s autoregression over the channels is left out on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import fastvae
from fastvae.measure.clock import Call

from .heads import measured
from .pixels import pixelcnn
from .script import options_of, parser_of

BATCH, COMPONENTS, CHANNELS, SIDE = 64, 10, 3, 32


def naive(x: Tensor, mixture_logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """As github.com/openai/pixel-cnn has it, `discretized_mix_logistic_loss`, and as NVAE and VDVAE took it over."""
    x = x.unsqueeze(1)
    log_probs = pixelcnn(x - mean, log_scale.clamp(min=-7), x < -0.999, x > 0.999)
    return -torch.logsumexp(log_probs.sum(2) + mixture_logits.log_softmax(1), 1).sum((1, 2)).mean()


def calls() -> dict[str, Call]:
    """Each gives the gradients of the mixture's logits, means and scales; PixelCNN++ has x in [-1, 1]."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (BATCH, CHANNELS, SIDE, SIDE)) / 255
    shape = BATCH, COMPONENTS, CHANNELS, SIDE, SIDE
    logits, mean, log_scale = torch.randn(BATCH, COMPONENTS, SIDE, SIDE), torch.rand(shape), torch.randn(shape) - 3
    ours = [t.requires_grad_() for t in (logits, mean, log_scale)]
    theirs = [t.detach().requires_grad_() for t in (logits, 2 * mean - 1, log_scale + 0.6931471805599453)]

    def fused(x: Tensor, *parameters: Tensor) -> Tensor:
        return -fastvae.discretized_logistic_mixture_log_prob(x, *parameters, reduction="mean")

    def gradients(
        function: Callable[..., Tensor], x: Tensor, operands: list[Tensor], i: int, _: object
    ) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(x, *operands), operands)

    return {
        "eager": Call(partial(gradients, naive, 2 * x - 1, theirs)),
        "compiled": Call(partial(gradients, torch.compile(naive, dynamic=False), 2 * x - 1, theirs)),
        "fused": Call(partial(gradients, fused, x, ours)),
    }


if __name__ == "__main__":
    options = options_of(parser_of(__doc__, rounds=7))
    print(measured(calls(), options.rounds))
