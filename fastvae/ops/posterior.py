"""q(z|x) = N(mean, std^2), diagonal: reparameterised samples and closed-form KL divergences.

`scale` is the second parameter, read as `scale_as` says. Shapes broadcast; KL is summed over the last `event_ndim`
dimensions, in nats. Noise is either the stream of `seed` (see `noise`) or `eps`, shaped like z; exactly one is given.
`num_samples` = K > 0 puts a leading axis of K on z; 0 puts none. Saved for backward: the operator's arguments.
"""

from __future__ import annotations

import torch

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape
from ._autograd import differentiable
from ._operator import SCALE, Operator


def _empty_sample(mean, scale, num_samples):
    shape = broadcast_shape(mean, scale)
    if num_samples > 0:
        return mean.new_empty([num_samples, *shape])
    return torch.empty_like(mean) if mean.shape == shape else mean.new_empty(shape)


def _empty_kl(event_ndim, *operands):
    shape = batch_shape(broadcast_shape(*operands), event_ndim)
    return operands[0].new_empty(shape, dtype=accumulate_dtype(*operands))


def _fake_rsample(mean, scale, seed, eps, num_samples, *scale_spec):
    return _empty_sample(mean, scale, num_samples)


def _fake_kl_standard_normal(mean, scale, weight, event_ndim, *rest):
    return _empty_kl(event_ndim, mean, scale, weight)


def _fake_kl_normal(mean_q, scale_q, mean_p, scale_p, weight, event_ndim, *rest):
    return _empty_kl(event_ndim, mean_q, scale_q, mean_p, scale_p, weight)


def _fake_rsample_kl(mean, scale, seed, eps, event_ndim, *rest):
    return _empty_sample(mean, scale, 0), _empty_kl(event_ndim, mean, scale)


# z = mean + std * eps
RSAMPLE = Operator(
    name="rsample",
    tensors=("Tensor mean", "Tensor scale", "Tensor? seed", "Tensor? eps"),
    constants=f"int num_samples, {SCALE}",
    outputs=("z",),
    shaped=2,
    differentiable=2,
    fake=_fake_rsample,
    event_ndim=lambda constants: 0,
    numbered=True,
)

# KL(N(mean, std^2) || N(0, 1)); an element at or below `free_bits` counts as `free_bits`, with no gradient
KL_STANDARD_NORMAL = Operator(
    name="kl_standard_normal",
    tensors=("Tensor mean", "Tensor scale", "Tensor? weight"),
    constants=f"int event_ndim, float free_bits, {SCALE}",
    outputs=("kl",),
    shaped=3,
    differentiable=2,
    fake=_fake_kl_standard_normal,
    event_ndim=lambda constants: constants[0],
)

# KL(N(mean_q, std_q^2) || N(mean_p, std_p^2))
KL_NORMAL = Operator(
    name="kl_normal",
    tensors=("Tensor mean_q", "Tensor scale_q", "Tensor mean_p", "Tensor scale_p", "Tensor? weight"),
    constants=f"int event_ndim, float free_bits, {SCALE}",
    outputs=("kl",),
    shaped=5,
    differentiable=4,
    fake=_fake_kl_normal,
    event_ndim=lambda constants: constants[0],
)

# rsample and kl_standard_normal in one pass over mean and scale
RSAMPLE_KL = Operator(
    name="rsample_kl",
    tensors=("Tensor mean", "Tensor scale", "Tensor? seed", "Tensor? eps"),
    constants=f"int event_ndim, float free_bits, {SCALE}",
    outputs=("z", "kl"),
    shaped=2,
    differentiable=2,
    fake=_fake_rsample_kl,
    event_ndim=lambda constants: constants[0],
    numbered=True,
)

rsample = differentiable(RSAMPLE)
kl_standard_normal = differentiable(KL_STANDARD_NORMAL)
kl_normal = differentiable(KL_NORMAL)
rsample_kl = differentiable(RSAMPLE_KL)
