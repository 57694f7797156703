"""The two halves put together: the loss and its parts, summed or averaged over the last `event_ndim` dimensions.

The weight of the KL is `beta * beta_value`, the tensor being optional.
"""

from __future__ import annotations

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape
from ._autograd import differentiable
from ._operator import Operator


def _fake_elbo(log_px, kl, beta, beta_value, event_ndim, mean):
    shape = batch_shape(broadcast_shape(log_px, kl, beta), event_ndim)
    return tuple(log_px.new_empty(shape, dtype=accumulate_dtype(log_px, kl, beta)) for _ in range(4))


# loss = beta * kl - log_px; elbo = log_px - kl
ELBO = Operator(
    name="elbo",
    tensors=("Tensor log_px", "Tensor kl", "Tensor? beta"),
    constants="float beta_value, int event_ndim, bool mean",
    outputs=("loss", "elbo", "log_likelihood", "kl"),
    shaped=3,
    differentiable=3,
    fake=_fake_elbo,
    event_ndim=lambda constants: constants[1],
)

elbo = differentiable(ELBO)
