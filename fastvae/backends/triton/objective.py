"""The two halves put together."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ...ops import objective as ops
from ...ops._one_pass import RESCALE
from .launch import register
from .registry import implements, on_device


@triton.jit
def elbo(c, log_px, kl, beta):
    """loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4), the ELBO, and its two parts."""
    return tl.fma(beta * c.beta_value, kl, -log_px), log_px - kl, log_px, kl


@triton.jit
def elbo_gradient(c, grad_loss, grad_elbo, grad_log_likelihood, grad_kl, log_px, kl, beta):
    of_log_px = grad_elbo + grad_log_likelihood - grad_loss
    of_kl = beta * c.beta_value * grad_loss + grad_kl - grad_elbo
    return of_log_px, of_kl, kl * (grad_loss * c.beta_value)


register(ops.ELBO, elbo, elbo_gradient)


@triton.jit
def _rescale_kernel(grad, upstream, count, BLOCK: tl.constexpr):
    factor = -tl.load(upstream)
    if factor != 1.0:
        i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(grad + i, i < count)
        tl.store(grad + i, (value * factor).to(value.dtype), i < count)


@implements(RESCALE)
def rescale_(grad: Tensor, upstream: Tensor) -> None:
    count, block = grad.numel(), 4096
    if count:
        with on_device(grad.device):
            _rescale_kernel[(triton.cdiv(count, block),)](grad, upstream, count, BLOCK=block)
