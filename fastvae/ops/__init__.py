"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

from . import likelihood, noise, objective, posterior
from ._contract import CONTRACTS, Contract
from ._likelihood import Likelihood
from ._operator import OPERATORS, Operator

__all__ = [
    "CONTRACTS",
    "OPERATORS",
    "Contract",
    "Likelihood",
    "Operator",
    "likelihood",
    "noise",
    "objective",
    "posterior",
]
