"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

from . import categorical, counts, likelihood, noise, objective, posterior
from ._contract import CONTRACTS, Contract
from ._likelihood import Likelihood
from ._operator import OPERATORS, Operator
from ._rows import ROW_LIKELIHOODS, RowLikelihood
from ._traced import Choice, choose_by

__all__ = [
    "CONTRACTS",
    "OPERATORS",
    "ROW_LIKELIHOODS",
    "Choice",
    "Contract",
    "Likelihood",
    "Operator",
    "RowLikelihood",
    "categorical",
    "choose_by",
    "counts",
    "likelihood",
    "noise",
    "objective",
    "posterior",
]
