"""q(z|x) = N(mean, std^2), diagonal: reparameterised samples and closed-form KL divergences.

`scale` is the second parameter, read as `scale_as` says. Shapes broadcast; KL is summed over the last `event_ndim`
dimensions, in nats. Noise is either the stream of `seed` (see `noise`) or `eps`, shaped like z. Saved for backward: the
operator's arguments.
"""

from __future__ import annotations

from ..formulas import posterior as formulas
from ._operator import SCALE_AS, Operator
from ._packed import Packed

# z = mean + std * eps
RSAMPLE = Operator(
    "rsample",
    f"Tensor mean, Tensor scale, Tensor? seed, Tensor? eps, SymInt num_samples, {SCALE_AS}",
    ("z",),
    formulas.rsample,
    formulas.rsample_gradient,
)

# KL(N(mean, std^2) || N(0, 1)); an element at or below `free_bits` counts as `free_bits`, with no gradient
KL_STANDARD_NORMAL = Operator(
    "kl_standard_normal",
    f"Tensor mean, Tensor scale, Tensor? weight, int event_ndim, float free_bits, {SCALE_AS}",
    ("kl",),
    formulas.kl_standard_normal,
    formulas.kl_standard_normal_gradient,
)

# KL(N(mean_q, std_q^2) || N(mean_p, std_p^2))
KL_NORMAL = Operator(
    "kl_normal",
    "Tensor mean_q, Tensor scale_q, Tensor mean_p, Tensor scale_p, Tensor? weight, int event_ndim, float free_bits, "
    f"{SCALE_AS}",
    ("kl",),
    formulas.kl_normal,
    formulas.kl_normal_gradient,
)

# rsample and kl_standard_normal in one pass over mean and scale
RSAMPLE_KL = Operator(
    "rsample_kl",
    f"Tensor mean, Tensor scale, Tensor? seed, Tensor? eps, int event_ndim, float free_bits, {SCALE_AS}",
    ("z", "kl"),
    formulas.rsample_kl,
    formulas.rsample_kl_gradient,
)

# of mean and scale in one tensor
RSAMPLE_KL_PACKED = Packed(RSAMPLE_KL)
