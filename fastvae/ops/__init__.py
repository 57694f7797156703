"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

from . import counts, likelihood, noise, objective, posterior
from ._contract import CONTRACTS, Contract
from ._likelihood import Likelihood
from ._operator import OPERATORS, Operator
from ._traced import Choice, choose_by

__all__ = [
    "CONTRACTS",
    "OPERATORS",
    "Choice",
    "Contract",
    "Likelihood",
    "Operator",
    "choose_by",
    "counts",
    "likelihood",
    "noise",
    "objective",
    "posterior",
]
