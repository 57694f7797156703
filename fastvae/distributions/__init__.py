"""Distributions of `torch.distributions`, as true subclasses, and diffusers' posteriors, by this package's operators.

Unlike torch's they check no data by default: that would stall a GPU. `validate_args=True` brings the checks back.
"""

from .bernoulli import Bernoulli
from .counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from .diagonal_gaussian import DiagonalGaussian
from .independent import Independent
from .normal import Normal
from .oobleck import OobleckDiagonalGaussian

__all__ = [
    "Bernoulli",
    "DiagonalGaussian",
    "Independent",
    "NegativeBinomial",
    "Normal",
    "OobleckDiagonalGaussian",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
]
