"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

from . import categorical, counts, likelihood, linear, mixture, noise, objective, pixels, posterior
from ._chunks import chunk_elements
from ._contract import COMPOSED, CONTRACTS, Composed, Contract
from ._likelihood import Likelihood
from ._linear import LinearLikelihood
from ._operator import OPERATORS, Operator
from ._rows import ROW_LIKELIHOODS, RowLikelihood
from ._traced import Choice, choose_by

__all__ = [
    "COMPOSED",
    "CONTRACTS",
    "OPERATORS",
    "ROW_LIKELIHOODS",
    "Choice",
    "Composed",
    "Contract",
    "Likelihood",
    "LinearLikelihood",
    "Operator",
    "RowLikelihood",
    "categorical",
    "choose_by",
    "chunk_elements",
    "counts",
    "likelihood",
    "linear",
    "mixture",
    "noise",
    "objective",
    "pixels",
    "posterior",
]
