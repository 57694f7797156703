"""The evidence lower bound from its two halves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

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
from ._one_node import one_node

__all__ = ["ElboTerms", "elbo"]


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


def _beta(beta: float | Tensor, log_px: Tensor) -> tuple[Tensor | None, float]:
    """beta as the operator's tensor and its float, the one that is not given being neutral."""
    if is_tensor(beta):
        check_tensor("beta", beta, FLOATING)
        if beta.dim() != 0:
            raise ValueError(f"beta must be a float or a 0-d tensor, got shape {list(beta.shape)}")
        check_same_device("beta", beta, "log_px", log_px.device)
        return beta, 1.0
    return None, number("beta", beta)
