"""The evidence lower bound from its two halves."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .._shapes import accumulate_dtype
from ..ops.objective import ELBO
from ._arguments import (
    FLOATING,
    Reduction,
    check_reduction,
    check_same_device,
    check_tensor,
    is_tensor,
    number,
    operands_shape,
)
from ._documents import documented
from ._doubly_reparameterized import Tapped
from ._one_node import one_node

__all__ = ["ElboTerms", "doubly_reparameterized", "elbo", "importance_weighted_bound"]


class ElboTerms(NamedTuple):
    """What `elbo` returns, all reduced alike, in nats; `elbo` is the bound itself whatever beta."""

    loss: Tensor
    elbo: Tensor
    log_likelihood: Tensor
    kl: Tensor


# So that an exported program and a checkpoint may hold one.
pytree._register_namedtuple(ElboTerms, serialized_type_name="fastvae.ElboTerms")
torch.serialization.add_safe_globals([ElboTerms])


@one_node(results=4, as_result=ElboTerms._make)
@documented
def elbo(log_px: Tensor, kl: Tensor, beta: float | Tensor = 1.0, *, reduction: Reduction = "mean") -> ElboTerms:
    """loss = -(log_px - beta * kl) beside elbo = log_px - kl and its parts, in nats.

    Args:
        log_px: the log-likelihood, floating.
        kl: the divergence, floating.
        beta: weight of the KL in the loss: a float, or a 0-d tensor, which may require a gradient.
        reduction: over all elements: "mean", "sum", or "none".

    Shape:
        log_px is [batch], or [K, batch] for K samples, and kl is [batch]; they broadcast.

    Returns:
        ElboTerms (loss, elbo, log_likelihood, kl): 0-d, or of the broadcast shape with `reduction="none"`; float32,
        float64 where an operand is. `loss` is what one calls `.backward()` on.

    Reference:
        Higgins et al. 2017, "beta-VAE: Learning basic visual concepts with a constrained variational framework", eq. 4.
    """
    check_reduction(reduction)
    shape = operands_shape(("log_px", "kl"), log_px, kl)
    if log_px.dim() == 0 and kl.dim() > 0:
        raise ValueError(f"log_px is reduced to one number and kl is not, {list(kl.shape)}: reduce both, or neither")
    event_ndim = 0 if reduction == "none" else len(shape)
    beta_tensor, beta_value = _beta(beta, log_px)
    return ElboTerms(*ELBO.apply(log_px, kl, beta_tensor, beta_value, event_ndim, reduction == "mean"))


@one_node()
@documented
def importance_weighted_bound(log_px: Tensor, log_pz: Tensor, log_qz: Tensor, *, tap: Tensor | None = None) -> Tensor:
    """log (1/K) sum_k w_k, log w = log_px + log_pz - log_qz, in nats: the K-sample bound on log p(x).

    Args:
        log_px: log p(x|z) at K samples z of q(z|x), floating.
        log_pz: log p(z) at them.
        log_qz: log q(z|x) at them. Of a `gaussian_log_prob` that is given a detached mean and log_var, the encoder's
            gradient is that of Roeder et al. 2017, "Sticking the landing".
        tap: what `doubly_reparameterized` gave beside z, for its gradient.

    Shape:
        The three broadcast to [K, *batch]; tap is [K + 1, *batch].

    Returns:
        The bound, [*batch], float32, float64 where an operand is. Differentiable in all three.

    Reference:
        Burda et al. 2016, "Importance weighted autoencoders", eq. 8.
    """
    operands = (log_px, log_pz, log_qz)
    shape = operands_shape(("log_px", "log_pz", "log_qz"), *operands)
    if not shape or shape[0] == 0:
        raise ValueError(f"log_px must have a first dimension of K samples, K at least 1, got shape {list(shape)}")
    dtype = accumulate_dtype(*operands)
    log_w = log_px.to(dtype) + log_pz.to(dtype) - log_qz.to(dtype)
    if tap is None:
        return torch.logsumexp(log_w, 0) - math.log(shape[0])
    check_tensor("tap", tap, FLOATING)
    if tap.shape != (shape[0] + 1, *shape[1:]):
        raise ValueError(f"tap must be [K + 1, *batch] for [K, *batch] = {list(shape)}, got {list(tap.shape)}")
    return torch.logsumexp(log_w + tap[:-1], 0) + tap[-1] - math.log(shape[0])


@documented
def doubly_reparameterized(z: Tensor, *, event_ndim: int = 1) -> tuple[Tensor, Tensor]:
    """z for a decoder, and the tap for `importance_weighted_bound` that makes the encoder's gradient the DReG one.

    The decoder's gradient remains that of the bound. log q(z|x) must be given a detached mean and log_var:

        z, tap = doubly_reparameterized(fastvae.rsample(mean, log_var, num_samples=K))
        log_qz = fastvae.gaussian_log_prob(z, mean.detach(), log_var.detach(), event_ndim=1)
        log_pz = fastvae.gaussian_log_prob(z, torch.zeros_like(mean), 0.0, event_ndim=1)
        bound = fastvae.importance_weighted_bound(log_prob(x, decoder(z)), log_pz, log_qz, tap=tap)

    Args:
        z: K reparameterised samples of q(z|x), floating.
        event_ndim: how many trailing dimensions are one z.

    Shape:
        z is [K, *batch, *event]; tap is [K + 1, *batch].

    Returns:
        (z, tap): z itself; zeros, float32 or float64.

    Reference:
        Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives", eq. 8.
    """
    check_tensor("z", z, FLOATING)
    if not 0 <= event_ndim < z.dim():
        raise ValueError(f"z must be [K, *batch, *event], got {list(z.shape)} with event_ndim={event_ndim}")
    tapped, tap = Tapped.apply(z, event_ndim)  # type: ignore[no-untyped-call]
    return tapped, tap


def _beta(beta: float | Tensor, log_px: Tensor) -> tuple[Tensor | None, float]:
    """beta as the operator's tensor and its float, the one that is not given being neutral."""
    if is_tensor(beta):
        check_tensor("beta", beta, FLOATING)
        if beta.dim() != 0:
            raise ValueError(f"beta must be a float or a 0-d tensor, got shape {list(beta.shape)}")
        check_same_device("beta", beta, "log_px", log_px.device)
        return beta, 1.0
    return None, number("beta", beta)
