"""Pyro: samples, log-densities and divergences of `Normal`, `Bernoulli` and `Independent`.

They are methods of Pyro's own classes: distributions made before `patch` have them too. Of other distributions, and of
subclasses, nothing is replaced; nor is what `validate_args` checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import distributions
from ..distributions.diagonal_gaussian import Noise
from ..distributions.normal import summed_kl
from ..functional import rsample
from ._patching import Library, Replacement

SummedLogProb = Callable[..., Tensor]  # of a distribution, a value, and the number of dimensions


def _replacements(noise: Noise) -> Iterator[Replacement]:
    from pyro.distributions import Bernoulli, Normal
    from pyro.distributions.torch import Independent
    from pyro.infer import trace_mean_field_elbo

    summed: dict[type, SummedLogProb] = {
        Normal: distributions.Normal.summed_log_prob,
        Bernoulli: distributions.Bernoulli.summed_log_prob,
    }
    yield Replacement(Normal, "rsample", _torchs_rsample if noise == "torch" else distributions.Normal.rsample)
    if noise == "fastvae":
        yield Replacement(Normal, "sample", distributions.Normal.sample)
    for kind, log_prob in summed.items():
        yield Replacement(kind, "log_prob", _log_prob(log_prob))
    yield Replacement(Independent, "log_prob", _independent_log_prob(summed, Independent.log_prob))
    replaced = trace_mean_field_elbo.kl_divergence
    yield Replacement(trace_mean_field_elbo, "kl_divergence", _kl_divergence(Normal, Independent, replaced))


def _torchs_rsample(self: Any, sample_shape: Any = torch.Size()) -> Tensor:
    shape = self._extended_shape(torch.Size(sample_shape))
    eps = torch.distributions.utils._standard_normal(shape, self.loc.dtype, self.loc.device)
    if 0 in shape:
        return eps
    count = math.prod(sample_shape)
    of_samples = {"num_samples": count, "eps": eps.reshape(count, *self.loc.shape)} if sample_shape else {"eps": eps}
    return rsample(self.loc, self.scale, scale_as="std", **of_samples).reshape(shape)


def _log_prob(summed: SummedLogProb) -> Callable[..., Tensor]:
    def log_prob(self: Any, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return summed(self, value, 0)

    return log_prob


def _independent_log_prob(summed: dict[type, SummedLogProb], theirs: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def log_prob(self: Any, value: Tensor) -> Tensor:
        of_base = summed.get(type(self.base_dist))
        if of_base is None:
            return theirs(self, value)
        if self._validate_args:
            self._validate_sample(value)
        return of_base(self.base_dist, value, self.reinterpreted_batch_ndims)

    return log_prob


def _kl_divergence(normal: Any, independent: Any, theirs: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def parts(d: Any) -> tuple[Any, int]:
        return (d.base_dist, d.reinterpreted_batch_ndims) if type(d) is independent else (d, 0)

    def kl_divergence(p: Any, q: Any) -> Tensor:
        (base_p, ndims_p), (base_q, ndims_q) = parts(p), parts(q)
        if type(base_p) is type(base_q) is normal and ndims_p == ndims_q:
            return summed_kl(base_p, base_q, ndims_p)
        return theirs(p, q)

    return kl_divergence


LIBRARY = Library("pyro-ppl", "1.8", "1.10", _replacements)
patch, unpatch = LIBRARY.patch, LIBRARY.unpatch
