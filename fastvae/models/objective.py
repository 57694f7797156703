"""What a model is trained on: the ELBO or the K-sample bound, and how their gradients are estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from torch import Tensor

from .. import functional
from ..functional import ElboTerms
from ..functional._arguments import FreeBitsOver, is_tensor
from ._checks import check_among

if TYPE_CHECKING:
    from .vae import VAE

Objective = Literal["elbo", "iwae"]
Estimator = Literal["pathwise", "stl", "dreg"]


def terms(
    model: VAE,
    x: Tensor,
    *,
    num_samples: int | None = None,
    objective: Objective = "elbo",
    estimator: Estimator = "pathwise",
    beta: float | Tensor = 1.0,
    free_bits: float | Tensor = 0.0,
    free_bits_over: FreeBitsOver = "element",
    capacity: float | Tensor | None = None,
    seed: int | Tensor | None = None,
) -> ElboTerms:
    """Means over the batch of a bound on log p(x), its parts, and the loss, in nats.

    Args:
        model: encoder, decoder, likelihood.
        x: images, floating, bool or uint8.
        num_samples: K samples of z for each image; None: one.
        objective: "elbo", averaged over the samples, or "iwae", the K-sample bound.
        estimator: of the encoder's gradient. "pathwise": of all that is written down; "stl": without that of log q in
            its parameters; "dreg": that, and weights squared, which for the ELBO are 1.
        beta: weight of the KL in the loss, of log p(z) - log q(z|x) in the K-sample bound's; a float or a 0-d tensor.
        free_bits: floor for the KL in the loss, nats; with `free_bits_over` as `fastvae.rsample_kl` has it. Of the
            closed form alone: objective "elbo", estimator "pathwise".
        capacity: C of a loss with beta |KL - C| in the place of beta KL, KL the mean over the batch; a float or a 0-d
            tensor. Of the closed form alone.
        seed: of the noise.

    Shape:
        x is [batch, C, H, W] or [batch, pixels].

    Returns:
        ElboTerms, 0-d each. `elbo` is the bound itself, whatever beta, free bits and capacity make of the loss; of
        "iwae" it is the K-sample bound, above log_likelihood - kl, which is the ELBO.

    Raises:
        ValueError: unknown names; free bits or a capacity where no KL in closed form is.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes". "iwae": Burda et al. 2016, "Importance weighted
        autoencoders", eq. 8. "stl": Roeder et al. 2017, "Sticking the landing". "dreg": Tucker et al. 2019, "Doubly
        reparameterized gradient estimators for Monte Carlo objectives", eq. 8. Capacity: Burgess et al. 2018,
        "Understanding disentangling in beta-VAE", eq. 8.
    """
    check_among("objective", objective, get_args(Objective))
    check_among("estimator", estimator, get_args(Estimator))
    if objective == "elbo" and estimator == "pathwise":
        return _closed_form(model, x, num_samples, beta, free_bits, free_bits_over, capacity, seed)
    for name, given in (("free_bits", _may_floor(free_bits)), ("capacity", capacity is not None)):
        if given:
            raise ValueError(
                f"{name} is of the KL in closed form: it wants objective='elbo' and estimator='pathwise', "
                f"got {objective!r} and {estimator!r}"
            )
    sampled = _elbo_of_samples if objective == "elbo" else _importance_weighted
    return sampled(model, x, num_samples, estimator, beta, seed)


def _closed_form(
    model: VAE,
    x: Tensor,
    num_samples: int | None,
    beta: float | Tensor,
    free_bits: float | Tensor,
    free_bits_over: FreeBitsOver,
    capacity: float | Tensor | None,
    seed: int | Tensor | None,
) -> ElboTerms:
    mean, log_var = model.encode(x)
    z, kl = functional.rsample_kl(
        mean, log_var, num_samples=num_samples, seed=seed, free_bits=free_bits, free_bits_over=free_bits_over
    )
    log_px, counted = model.log_prob(x, z, reduction="mean"), kl.mean()
    if capacity is not None:
        counted = (counted - capacity).abs()
    result = functional.elbo(log_px, counted, beta)
    if capacity is None and not _may_floor(free_bits):
        return result
    true = functional.kl_standard_normal(mean.detach(), log_var.detach()).mean()
    return ElboTerms(result.loss, *functional.elbo(log_px.detach(), true)[1:])


class Samples(NamedTuple):
    """z of q(z|x) and its densities, for the bound in which log p(x|z) is still missing."""

    z: Tensor
    log_pz: Tensor
    log_qz: Tensor
    tap: Tensor | None
    kl: Tensor  # in closed form, the mean over the batch, without a gradient


def _may_floor(free_bits: float | Tensor) -> bool:
    return is_tensor(free_bits) or free_bits != 0


def log_weights(model: VAE, x: Tensor, num_samples: int, seed: int | Tensor | None = None) -> Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) in nats at K samples of q(z|x), [K, batch]."""
    samples = _samples(model, x, num_samples, "pathwise", seed)
    return model.log_prob(x, samples.z) + samples.log_pz - samples.log_qz


def _samples(
    model: VAE, x: Tensor, num_samples: int | None, estimator: Estimator, seed: int | Tensor | None
) -> Samples:
    """Before the decoder, so that backward is through with the decoder when it comes to densities."""
    mean, log_var = model.encode(x)
    z, tap = functional.rsample(mean, log_var, num_samples=num_samples, seed=seed), None
    stopped = mean.detach(), log_var.detach()
    if estimator == "dreg" and num_samples is not None:
        z, tap = functional.doubly_reparameterized(z)
    log_pz = functional.gaussian_log_prob(z, *z.new_zeros(2).unbind(), event_ndim=1)
    log_qz = functional.gaussian_log_prob(z, *((mean, log_var) if estimator == "pathwise" else stopped), event_ndim=1)
    return Samples(z, log_pz, log_qz, tap, functional.kl_standard_normal(*stopped).mean())


def _elbo_of_samples(
    model: VAE,
    x: Tensor,
    num_samples: int | None,
    estimator: Estimator,
    beta: float | Tensor,
    seed: int | Tensor | None,
) -> ElboTerms:
    """Roeder et al. 2017, eq. 8: the KL by the samples, log q without its gradient in the parameters."""
    samples = _samples(model, x, num_samples, "stl", seed)
    return functional.elbo(model.log_prob(x, samples.z), samples.log_qz - samples.log_pz, beta)


def _importance_weighted(
    model: VAE,
    x: Tensor,
    num_samples: int | None,
    estimator: Estimator,
    beta: float | Tensor,
    seed: int | Tensor | None,
) -> ElboTerms:
    samples = _samples(model, x, 1 if num_samples is None else num_samples, estimator, seed)
    log_px, log_pz, log_qz = model.log_prob(x, samples.z), samples.log_pz, samples.log_qz
    weighs = is_tensor(beta) or beta != 1
    counted = (beta * log_pz, beta * log_qz) if weighs else (log_pz, log_qz)
    loss = -functional.importance_weighted_bound(log_px, *counted, tap=samples.tap).mean()
    densities = [density.detach() for density in (log_px, log_pz, log_qz)]
    bound = functional.importance_weighted_bound(*densities).mean() if weighs else -loss
    return ElboTerms(loss, bound, densities[0].mean(), samples.kl)
