"""scvi-tools: `log_prob` of its Poisson and negative binomial distributions, zero-inflated and mixed ones too.

They are methods of scvi-tools' own classes: distributions made before `patch` have them too. Values are those without
the library's epsilons of 1e-8, and right for dispersions above 1e4, where the library's are not. Whether counts lie in
the support is checked with `validate_args=True` alone. Noise and divergences are the library's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, logaddexp

from ..distributions.diagonal_gaussian import Noise
from ..functional import negative_binomial_log_prob, poisson_log_prob
from ._patching import Library, Replacement


def _replacements(noise: Noise) -> Iterator[Replacement]:
    from scvi.distributions import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial

    yield Replacement(Poisson, "log_prob", _log_prob(_poisson))
    yield Replacement(NegativeBinomial, "log_prob", _log_prob(_negative_binomial))
    yield Replacement(ZeroInflatedNegativeBinomial, "log_prob", _log_prob(_zero_inflated))
    yield Replacement(NegativeBinomialMixture, "log_prob", _log_prob(_mixture))


def _log_prob(formula: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    def log_prob(self: Any, value: Tensor) -> Tensor:
        if self._validate_args:
            try:
                self._validate_sample(value)
            except ValueError:
                warnings.warn("The value argument must be within the support of the distribution", stacklevel=2)
        return formula(self, value)

    return log_prob


def _poisson(self: Any, value: Tensor) -> Tensor:
    return poisson_log_prob(value, self.rate, rate_as="rate", event_ndim=0)


def _negative_binomial(self: Any, value: Tensor) -> Tensor:
    return negative_binomial_log_prob(value, self.mu, _before_expansion(self.theta), event_ndim=0)


def _zero_inflated(self: Any, value: Tensor) -> Tensor:
    theta = _before_expansion(self.theta)
    return negative_binomial_log_prob(value, self.mu, theta, self.zi_logits, event_ndim=0)


def _mixture(self: Any, value: Tensor) -> Tensor:
    theta1 = _before_expansion(self.theta1)
    theta2 = theta1 if self.theta2 is None else self.theta2
    log_prob1 = negative_binomial_log_prob(value, self.mu1, theta1, event_ndim=0)
    log_prob2 = negative_binomial_log_prob(value, self.mu2, theta2, event_ndim=0)
    # Logits of the first component: a sigmoid and its complement as weights.
    return logaddexp(log_prob1, log_prob2 - self.mixture_logits) - F.softplus(-self.mixture_logits)


def _before_expansion(theta: Tensor) -> Tensor:
    """The gene's dispersion as the library was given it: its gradient is then summed in the kernel."""
    base = theta._base
    if base is None or base.dim() != 1 or base.shape != theta.shape[-1:] or any(theta.stride()[:-1]):
        return theta
    is_it = theta.data_ptr() == base.data_ptr() and theta.stride(-1) == base.stride(0)
    return base if is_it else theta


LIBRARY = Library("scvi-tools", "1.3", "1.5", _replacements)
patch, unpatch = LIBRARY.patch, LIBRARY.unpatch
