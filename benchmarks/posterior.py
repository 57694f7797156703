"""Variants of q(z|x)'s operators. The naive ones are the snippets that people have in their training loops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import fastvae
from fastvae.distributions import DiagonalGaussian
from fastvae.distributions.diagonal_gaussian import CLAMP

from .variants import fused, naive, variant

fused("rsample")(fastvae.rsample)
fused("rsample_kl")(fastvae.rsample_kl)
fused("kl_standard_normal")(fastvae.kl_standard_normal)
fused("kl_normal")(fastvae.kl_normal)


@naive("rsample")
def rsample(mean: Tensor, log_var: Tensor, num_samples: int | None = None) -> Tensor:
    std = torch.exp(0.5 * log_var)
    if num_samples is None:
        return mean + std * torch.randn_like(std)
    return mean + std * torch.randn(num_samples, *std.shape, dtype=std.dtype, device=std.device)


@naive("kl_standard_normal")
def kl_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)


@naive("rsample_kl")
def rsample_kl(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    return rsample(mean, log_var), kl_standard_normal(mean, log_var)


@naive("kl_normal")
def kl_normal(mean_q: Tensor, log_var_q: Tensor, mean_p: Tensor, log_var_p: Tensor) -> Tensor:
    ratio = (log_var_q.exp() + (mean_q - mean_p).pow(2)) / log_var_p.exp()
    return 0.5 * (log_var_p - log_var_q + ratio - 1).sum(1)


# torch.distributions as people call it: with the checks of arguments, which stop for the host.


@variant("rsample", "distributions", capturable=False)
def rsample_distributions(mean: Tensor, log_var: Tensor, num_samples: int | None = None) -> Tensor:
    q = Normal(mean, torch.exp(0.5 * log_var))
    return q.rsample() if num_samples is None else q.rsample((num_samples,))


@variant("kl_standard_normal", "distributions", capturable=False)
def kl_standard_normal_distributions(mean: Tensor, log_var: Tensor) -> Tensor:
    q = Normal(mean, torch.exp(0.5 * log_var))
    return kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1)


@variant("rsample_kl", "distributions", capturable=False)
def rsample_kl_distributions(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    q = Normal(mean, torch.exp(0.5 * log_var))
    return q.rsample(), kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1)


@variant("kl_normal", "distributions", capturable=False)
def kl_normal_distributions(mean_q: Tensor, log_var_q: Tensor, mean_p: Tensor, log_var_p: Tensor) -> Tensor:
    return kl_divergence(Normal(mean_q, torch.exp(0.5 * log_var_q)), Normal(mean_p, torch.exp(0.5 * log_var_p))).sum(1)


# diffusers' DiagonalGaussianDistribution: moments packed along dimension 1, a clamp, a sample and its KL.


@fused("moments")
def moments_fused(moments: Tensor, **given) -> tuple[Tensor, Tensor]:
    mean, log_var = moments.chunk(2, dim=1)
    return fastvae.rsample_kl(mean, log_var, clamp=CLAMP, **given)


@fused("moments", "DiagonalGaussian")
def moments_class(moments: Tensor) -> tuple[Tensor, Tensor]:
    q = DiagonalGaussian(moments)
    return q.sample(), q.kl()


@naive("moments")
def moments_diffusers(moments: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_var = torch.chunk(moments, 2, dim=1)
    log_var = torch.clamp(log_var, *CLAMP)
    std, var = torch.exp(0.5 * log_var), torch.exp(log_var)
    z = mean + std * torch.randn(mean.shape, dtype=moments.dtype, device=moments.device)
    return z, 0.5 * torch.sum(torch.pow(mean, 2) + var - 1.0 - log_var, dim=[1, 2, 3])


# A sample alone, with no gradients: images are encoded once. diffusers' class makes std and var as it is made.


@fused("encoding")
def encoding_fused(moments: Tensor, eps: Tensor | None = None) -> Tensor:
    if eps is None:
        return DiagonalGaussian(moments).sample()
    return fastvae.rsample(*moments.chunk(2, dim=1), eps=eps, clamp=CLAMP)


@naive("encoding")
def encoding_diffusers(moments: Tensor) -> Tensor:
    mean, log_var = torch.chunk(moments, 2, dim=1)
    log_var = torch.clamp(log_var, *CLAMP)
    std, _ = torch.exp(0.5 * log_var), torch.exp(log_var)
    return mean + std * torch.randn(mean.shape, dtype=moments.dtype, device=moments.device)
