"""The two halves put together."""

from __future__ import annotations

import triton
import triton.language as tl

from ...ops import objective as ops
from .launch import Formula, kernel
from .prepare import Constants


@triton.jit
def elbo_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """loss = beta KL - log p(x|z) (Higgins et al. 2017, eq. 4); the ELBO itself has beta = 1."""
    log_px, kl, beta = values
    return tl.fma(beta * scalars[0], kl, -log_px), log_px - kl, log_px, kl


@triton.jit
def elbo_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad_loss, grad_elbo, grad_log_likelihood, grad_kl, _log_px, kl, beta = values
    of_log_px = (grad_elbo + grad_log_likelihood - grad_loss) * scalars[1]
    of_kl = (beta * scalars[0] * grad_loss + grad_kl - grad_elbo) * scalars[1]
    return of_log_px, of_kl, kl * scalars[1] * (grad_loss * scalars[0])


# --- operators ---


def _share(constants: Constants, count: int) -> float:
    return 1 / max(count, 1) if constants["averaged"] else 1.0


def _scalars(constants: Constants, count: int) -> tuple[float, float]:
    return constants["beta_value"], _share(constants, count)


elbo = kernel(ops.ELBO, ops.ELBO.forward, Formula(elbo_value, _scalars, sum_scale=_share))
elbo_backward = kernel(ops.ELBO, ops.ELBO.backward, Formula(elbo_gradient, _scalars))
