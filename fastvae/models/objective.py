"""What a model is trained on: the ELBO or the K-sample bound, and how their gradients are estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from torch import Tensor

from .. import functional
from .._shapes import accumulate_dtype
from ..functional import ElboTerms
from ..functional._arguments import FreeBitsOver, check_name, is_tensor
from ..ops.noise import as_seed, draw_seed

if TYPE_CHECKING:
    from .vae import VAE

Objective = Literal["elbo", "iwae"]
Estimator = Literal["pathwise", "stl", "dreg"]
CapacityOver = Literal["batch", "sample"]
Noise = dict[str, Any]  # `rsample`'s keywords num_samples, seed and eps


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
    capacity_over: CapacityOver = "batch",
    seed: int | Tensor | None = None,
    eps: Tensor | None = None,
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
        capacity: C of a loss with beta |KL - C| in the place of beta KL, a float or a 0-d tensor. Of the closed form
            alone.
        capacity_over: which KL is to be C, the mean over the "batch" or that of each "sample".
        seed: of the noise.
        eps: the noise itself, [batch, L], or [K, batch, L] with `num_samples`.

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
    check_name("objective", objective, get_args(Objective))
    check_name("estimator", estimator, get_args(Estimator))
    check_name("capacity_over", capacity_over, get_args(CapacityOver))
    noise: Noise = {"num_samples": num_samples, "seed": seed, "eps": eps}
    if objective == "elbo" and estimator == "pathwise":
        return _closed_form(model, x, noise, beta, free_bits, free_bits_over, capacity, capacity_over)
    for name, given in (("free_bits", _may_floor(free_bits)), ("capacity", capacity is not None)):
        if given:
            raise ValueError(
                f"{name} is of the KL in closed form: it wants objective='elbo' and estimator='pathwise', "
                f"got {objective!r} and {estimator!r}"
            )
    if objective == "elbo":
        return _of_samples(model, x, noise, beta)
    return _importance_weighted(model, x, noise, estimator, beta)


def log_weights(model: VAE, x: Tensor, num_samples: int, seed: int | Tensor | None = None) -> Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) in nats at K samples of q(z|x), [K, batch]."""
    samples = _samples(model, x, {"num_samples": num_samples, "seed": seed}, "pathwise")
    return model.log_prob(x, samples.z) + samples.log_pz - samples.log_qz


def _may_floor(free_bits: float | Tensor) -> bool:
    return is_tensor(free_bits) or free_bits != 0


def _closed_form(
    model: VAE,
    x: Tensor,
    noise: Noise,
    beta: float | Tensor,
    free_bits: float | Tensor,
    free_bits_over: FreeBitsOver,
    capacity: float | Tensor | None,
    capacity_over: CapacityOver,
) -> ElboTerms:
    mean, log_var = model.encode(x)
    z, kl = functional.rsample_kl(mean, log_var, free_bits=free_bits, free_bits_over=free_bits_over, **noise)
    log_px, counted = model.log_prob(x, z, reduction="mean"), kl.mean()
    if capacity is not None:
        counted = ((counted if capacity_over == "batch" else kl) - capacity).abs().mean()
    result = functional.elbo(log_px, counted, beta)
    if capacity is None and not _may_floor(free_bits):
        return result
    true = functional.kl_standard_normal(mean.detach(), log_var.detach()).mean()
    return ElboTerms(result.loss, *functional.elbo(log_px.detach(), true)[1:])


def _of_samples(model: VAE, x: Tensor, noise: Noise, beta: float | Tensor) -> ElboTerms:
    """Roeder et al. 2017, eq. 8: the KL by the samples."""
    samples = _samples(model, x, noise, "stl")
    return functional.elbo(model.log_prob(x, samples.z), samples.log_qz - samples.log_pz, beta)


def _importance_weighted(model: VAE, x: Tensor, noise: Noise, estimator: Estimator, beta: float | Tensor) -> ElboTerms:
    if noise["num_samples"] is None:
        eps = noise["eps"]
        noise = {**noise, "num_samples": 1, "eps": eps if eps is None else eps[None]}
    samples = _samples(model, x, noise, estimator)
    log_px, log_pz, log_qz = model.log_prob(x, samples.z), samples.log_pz, samples.log_qz
    weighs = is_tensor(beta) or beta != 1
    counted = (beta * log_pz, beta * log_qz) if weighs else (log_pz, log_qz)
    loss = -functional.importance_weighted_bound(log_px, *counted, tap=samples.tap).mean()
    densities = [density.detach() for density in (log_px, log_pz, log_qz)]
    bound = functional.importance_weighted_bound(*densities).mean() if weighs else -loss
    return ElboTerms(loss, bound, densities[0].mean(), samples.kl)


class Samples(NamedTuple):
    """z of q(z|x) and its densities, for the bound in which log p(x|z) is still missing."""

    z: Tensor
    log_pz: Tensor
    log_qz: Tensor
    tap: Tensor | None
    kl: Tensor  # in closed form, the mean over the batch, without a gradient


def _samples(model: VAE, x: Tensor, noise: Noise, estimator: Estimator) -> Samples:
    """Before the decoder, so that backward is through with the decoder when it comes to densities."""
    mean, log_var = model.encode(x)
    if noise.get("eps") is None:
        seed = noise.get("seed")
        noise = {**noise, "seed": draw_seed(mean) if seed is None else as_seed(seed, mean.device)}
    z, tap = functional.rsample(mean, log_var, **noise), None
    if estimator == "dreg":
        z, tap = functional.doubly_reparameterized(z)
    log_pz = _log_normal(z)
    stopped = mean.detach(), log_var.detach()
    if estimator == "pathwise":
        log_qz = _log_normal(_eps(mean, noise)) - log_var.sum(-1, dtype=log_pz.dtype) / 2
    else:
        log_qz = functional.gaussian_log_prob(z, *stopped, event_ndim=1)
    return Samples(z, log_pz, log_qz, tap, functional.kl_standard_normal(*stopped).mean())


def _eps(mean: Tensor, noise: Noise) -> Tensor:
    """The noise of z. log q(z|x) is -(eps^2 + log var + log 2 pi) / 2, of which nothing cancels."""
    if noise.get("eps") is not None:
        return noise["eps"]
    zero = mean.new_zeros((), dtype=accumulate_dtype(mean)).expand(mean.shape)
    return functional.rsample(zero, zero, **noise)


def _log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I)."""
    return functional.gaussian_log_prob(z, *z.new_zeros(2).unbind(), event_ndim=1)
