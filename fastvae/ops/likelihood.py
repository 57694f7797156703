"""log p(x|z): log-likelihoods summed over the last `event_ndim` dimensions, in nats.

The value `x` comes first and is read as `x * x_scale`; it may be any float type, bool or uint8. Shapes broadcast.
`weight` multiplies each element's term; where it is zero (or False) value and gradients are exactly zero, NaN or not.
Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape
from ._autograd import differentiable
from ._one_pass import OnePass, total
from ._operator import SCALE, Operator


def _empty_log_prob(event_ndim, *operands):
    shape = batch_shape(broadcast_shape(*operands), event_ndim)
    return operands[1].new_empty(shape, dtype=accumulate_dtype(*operands))


def _fake_bernoulli(x, logits, weight, event_ndim, x_scale):
    return _empty_log_prob(event_ndim, x, logits, weight)


def _fake_gaussian(x, mean, scale, weight, event_ndim, *rest):
    return _empty_log_prob(event_ndim, x, mean, scale, weight)


# x * logits - softplus(logits)
BERNOULLI_LOG_PROB = Operator(
    name="bernoulli_log_prob",
    tensors=("Tensor x", "Tensor logits", "Tensor? weight"),
    constants="int event_ndim, float x_scale",
    outputs=("log_prob",),
    shaped=3,
    differentiable=2,
    fake=_fake_bernoulli,
    event_ndim=lambda constants: constants[0],
)

# -((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2); the last constant only if `normalized`
GAUSSIAN_LOG_PROB = Operator(
    name="gaussian_log_prob",
    tensors=("Tensor x", "Tensor mean", "Tensor scale", "Tensor? weight"),
    constants=f"int event_ndim, float x_scale, bool normalized, {SCALE}",
    outputs=("log_prob",),
    shaped=4,
    differentiable=3,
    fake=_fake_gaussian,
    event_ndim=lambda constants: constants[0],
)

BERNOULLI_LOG_PROB_ONE_PASS = OnePass(BERNOULLI_LOG_PROB)
GAUSSIAN_LOG_PROB_ONE_PASS = OnePass(GAUSSIAN_LOG_PROB)

bernoulli_log_prob = differentiable(BERNOULLI_LOG_PROB)
gaussian_log_prob = differentiable(GAUSSIAN_LOG_PROB)
# (share, arguments...) -> share * the sum over everything
total_bernoulli_log_prob = total(BERNOULLI_LOG_PROB_ONE_PASS)
total_gaussian_log_prob = total(GAUSSIAN_LOG_PROB_ONE_PASS)
