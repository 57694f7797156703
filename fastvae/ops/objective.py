"""The two halves put together: the loss and its parts, summed or averaged over the last `event_ndim` dimensions.

The weight of the KL is `beta * beta_value`, the tensor being optional.
"""

from __future__ import annotations

from ..formulas import objective as formulas
from ._operator import Operator

# loss = beta * kl - log_px; elbo = log_px - kl
ELBO = Operator(
    "elbo",
    "Tensor log_px, Tensor kl, Tensor? beta, float beta_value, int event_ndim, bool averaged",
    ("loss", "elbo", "log_likelihood", "kl"),
    formulas.elbo,
    formulas.elbo_gradient,
)
