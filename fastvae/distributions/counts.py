"""Distributions of counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.utils import broadcast_all

from .._shapes import promoted_dtype
from ..functional import negative_binomial_log_prob, poisson_log_prob
from ._summed import SummedLogProb


class Poisson(SummedLogProb, torch.distributions.Poisson):
    """`torch.distributions.Poisson(rate)` with a fused `log_prob`, of counts of any floating or integer type.

    Reference:
        `torch.distributions.Poisson`.
    """

    def summed_log_prob(self, value: Tensor, event_ndim: int) -> Tensor:
        log_prob = poisson_log_prob(value, self.rate, rate_as="rate", event_ndim=event_ndim)
        return log_prob.to(promoted_dtype(value, self.rate))


class NegativeBinomial(SummedLogProb, torch.distributions.NegativeBinomial):
    """`torch.distributions.NegativeBinomial(total_count, probs)` or `(total_count, logits=)` with a fused `log_prob`.

    total_count is the inverse dispersion; the mean is total_count exp(logits). A large total_count, where torch's
    lgammas cancel, keeps its digits.

    Reference:
        `torch.distributions.NegativeBinomial`; Loader 2000, "Fast and accurate computation of binomial probabilities".
    """

    def summed_log_prob(self, value: Tensor, event_ndim: int) -> Tensor:
        log_prob = negative_binomial_log_prob(
            value, self.logits, self.total_count, self._zero_logits, mean_as="logits", event_ndim=event_ndim
        )
        return log_prob.to(promoted_dtype(value, self.logits, self.total_count))

    @property
    def _zero_logits(self) -> Tensor | None:
        return None


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """A `NegativeBinomial` of which sigmoid(zero_logits) of all mass stands at 0 besides.

    Args:
        total_count: the inverse dispersion, positive.
        probs, logits: one of them, as `torch.distributions.NegativeBinomial` has them.
        zero_logits: logits of a zero that is none of the counts'.

    Shape:
        The parameters broadcast to the batch shape.

    Reference:
        Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics", supplementary note 3.
    """

    arg_constraints = {  # noqa: RUF012
        **torch.distributions.NegativeBinomial.arg_constraints,
        "zero_logits": torch.distributions.constraints.real,
    }

    def __init__(
        self,
        total_count: Tensor | float,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        zero_logits: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        given = {name: value for name, value in (("probs", probs), ("logits", logits)) if value is not None}
        if len(given) != 1:
            raise ValueError("one of probs and logits must be given, not both")
        [(read_as, value)] = given.items()
        total_count, value, self.zero_logits = broadcast_all(total_count, value, zero_logits)
        super().__init__(total_count, **{read_as: value}, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZeroInflatedNegativeBinomial:
        """The same, with its parameters expanded to `batch_shape`."""
        new = self._get_checked_instance(ZeroInflatedNegativeBinomial, _instance)
        new.zero_logits = self.zero_logits.expand(batch_shape)
        return super().expand(batch_shape, new)

    @property
    def mean(self) -> Tensor:
        """sigmoid(-zero_logits) times the counts' own."""
        return torch.sigmoid(-self.zero_logits) * super().mean

    @property
    def mode(self) -> Tensor:
        """Not given: it depends on which is likelier, 0 or the counts' own."""
        raise NotImplementedError("ZeroInflatedNegativeBinomial has no mode in closed form")

    @property
    def variance(self) -> Tensor:
        """E[x^2] - E[x]^2."""
        share, mean = torch.sigmoid(-self.zero_logits), super().mean
        of_squares = mean + mean**2 * (1 + 1 / self.total_count)
        return share * of_squares - (share * mean) ** 2

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Counts, and zeros among them; [*sample_shape, *batch_shape]."""
        with torch.no_grad():
            counts = super().sample(sample_shape)
            return counts.masked_fill(torch.rand_like(counts) < torch.sigmoid(self.zero_logits), 0)

    @property
    def _zero_logits(self) -> Tensor | None:
        return self.zero_logits
