"""The posterior of latent diffusion's autoencoders, from packed moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from .._shapes import accumulate_dtype
from ..functional import gaussian_log_prob, kl_normal, kl_standard_normal, rsample
from ..functional._arguments import FLOATING, MAX_NDIM, check_name, check_no_capture, scale_arguments
from ..ops._packed import serves
from ..ops.noise import NORMALS, draw_seed, on_device
from ..ops.posterior import RSAMPLE, RSAMPLE_KL_PACKED

Noise = Literal["fastvae", "torch"]
Generators = torch.Generator | Sequence[torch.Generator] | None  # one, or one for each of a batch
CLAMP = (-30.0, 20.0)  # on the log-variance


class DiagonalGaussian:
    """`DiagonalGaussianDistribution` of diffusers and latent diffusion: mean and log-variance packed along dimension 1.

    The halves are read in place. Neither standard deviation nor variance is made unless it is asked for. A sample that
    `parameters` get a gradient of brings the divergence with it, in one pass either way, and their gradient is one
    tensor. The log-variance is clamped to [-30, 20], with no gradient outside. Divergence and likelihood are float32
    where `parameters` are of half precision, and sum all dimensions but the first, also where there are not four.

    Args:
        parameters: [N, 2 C, *], any number of dimensions from two on; float32, bfloat16, float16 or float64.
        deterministic: a sample is the mean, and the divergence is 0.
        noise: "fastvae", the stream that `fastvae.ops.noise` defines, of a seed that the generator draws; or "torch",
            `torch.randn` of the generator: samples are diffusers', bit for bit, in torch's own arithmetic.

    Raises:
        ValueError: `parameters` cannot be halved along dimension 1, `noise` is unknown.

    Reference:
        Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models".
    """

    # How the second half is read.
    _read_as: ClassVar[dict[str, Any]] = {"scale_as": "log_var", "scale_eps": 0.0, "clamp": CLAMP}
    _scale_constants: ClassVar[tuple[Any, ...]] = scale_arguments(**_read_as)  # as operators take it

    def __init_subclass__(cls) -> None:
        cls._scale_constants = scale_arguments(**cls._read_as)

    def __init__(self, parameters: Tensor, deterministic: bool = False, noise: Noise = "fastvae") -> None:
        if parameters.dim() < 2 or parameters.shape[1] % 2:
            raise ValueError(f"parameters must be [N, 2 C, ...], got {list(parameters.shape)}")
        check_name("noise", noise, get_args(Noise))
        self.parameters, self.deterministic, self.noise = parameters, deterministic, noise
        self.mean, self._scale = parameters.chunk(2, dim=1)
        self._kl: Tensor | None = None

    @property
    def logvar(self) -> Tensor:
        """The log-variance, clamped."""
        return self._scale.clamp(*CLAMP)

    @property
    def std(self) -> Tensor:
        return torch.zeros_like(self.mean) if self.deterministic else (0.5 * self.logvar).exp()

    @property
    def var(self) -> Tensor:
        return torch.zeros_like(self.mean) if self.deterministic else self.logvar.exp()

    def sample(self, generator: Generators = None) -> Tensor:
        """mean + std * eps, [N, C, *].

        Args:
            generator: one, on any device; or one for each of the N.
        """
        generator = self._checked(generator)
        if self.noise == "torch":
            return self._torchs_sample(self._randn(generator))
        if self._is_mean():
            return self.mean
        if self._brings_kl():
            return self._sample_and_kl(generator)
        if isinstance(generator, Sequence):
            return rsample(self.mean, self._scale, eps=self._normals(generator), **self._read_as)
        if generator is None and self._is_plain():
            z: Tensor = RSAMPLE.apply(self.mean, self._scale, draw_seed(self.mean), None, 0, *self._scale_constants)
            return z
        return rsample(self.mean, self._scale, generator=generator, **self._read_as)

    def mode(self) -> Tensor:
        return self.mean

    def kl(self, other: DiagonalGaussian | None = None, dims: Sequence[int] | None = None) -> Tensor:
        """KL(self || other) in nats, [N]; without another, to N(0, I).

        Args:
            dims: what is summed; None: all dimensions but the first.
        """
        if self.deterministic:
            return self.mean.new_zeros(1)
        ours = (self.mean, self._scale)
        if other is None and dims is None and self._kl is not None and torch.is_grad_enabled():
            return self._kl
        if other is None:
            return self._summed(dims, lambda ndim: kl_standard_normal(*ours, event_ndim=ndim, **self._read_as))
        theirs = (other.mean, other._scale)
        return self._summed(dims, lambda ndim: kl_normal(*ours, *theirs, event_ndim=ndim, **self._read_as))

    def nll(self, sample: Tensor, dims: Sequence[int] | None = None) -> Tensor:
        """-log N(sample; mean, var) in nats, [N].

        Args:
            dims: what is summed; None: all dimensions but the first.
        """
        if self.deterministic:
            return self.mean.new_zeros(1)
        operands = (sample, self.mean, self._scale)
        return -self._summed(dims, lambda ndim: gaussian_log_prob(*operands, event_ndim=ndim, **self._read_as))

    def _summed(self, dims: Sequence[int] | None, terms: Callable[[int], Tensor]) -> Tensor:
        """`terms` of event_ndim, over `dims`: in the kernel where these are the last ones."""
        ndim = self.mean.dim()
        summed = sorted(range(1, ndim) if dims is None else {d % ndim for d in dims})
        if summed == list(range(ndim - len(summed), ndim)):
            return terms(len(summed))
        return terms(0).sum(summed)

    def _brings_kl(self) -> bool:
        """Whether a sample and its divergence are made in one pass."""
        return self._kl is None and torch.is_grad_enabled() and self.parameters.requires_grad and self._is_plain()

    def _is_plain(self) -> bool:
        """Whether the halves need no check."""
        parameters = self.parameters
        return parameters.dtype in FLOATING and parameters.dim() <= MAX_NDIM and serves(parameters)

    def _sample_and_kl(self, generator: Generators) -> Tensor:
        noise: tuple[Tensor | None, Tensor | None]
        if isinstance(generator, Sequence) or self.mean.device.type == "cpu":
            noise = (None, self._normals(generator))  # there it takes longer to make it again than to keep it
        else:
            noise = (draw_seed(self.mean, generator), None)
        constants = (1, self.mean.dim() - 1, 0.0, *self._scale_constants)
        z, self._kl = RSAMPLE_KL_PACKED.apply(constants, self.parameters, *noise)
        return z

    def _checked(self, generator: Generators) -> Generators:
        if not isinstance(generator, Sequence):
            return generator
        if len(generator) == 1:
            return generator[0]
        if len(generator) != len(self.mean):
            raise ValueError(f"{len(generator)} generators for a batch of {len(self.mean)}: one for each is wanted")
        return generator

    def _normals(self, generator: Generators) -> Tensor:
        """The stream's, of one seed; or of one seed for each of the N."""
        each = generator if isinstance(generator, Sequence) else [generator]
        shape = (-1, *self.mean.shape[1:])
        count = self.mean.numel() // len(each)
        eps = [NORMALS.call(draw_seed(self.mean, one), count).view(shape) for one in each]
        return torch.cat(eps).to(accumulate_dtype(self.mean)) if len(eps) > 1 else eps[0]

    def _randn(self, generator: Generators) -> Tensor:
        if isinstance(generator, Sequence):
            return torch.cat([self._randn_of(self.mean[:1].shape, one) for one in generator])
        return self._randn_of(self.mean.shape, generator)

    def _randn_of(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        device = self.mean.device if generator is None else generator.device
        check_no_capture("generator", device, self.mean.device)
        eps = torch.randn(shape, generator=generator, device=device, dtype=self.mean.dtype)
        return on_device(eps, self.mean.device)

    def _torchs_sample(self, eps: Tensor) -> Tensor:
        """In the order, and with the roundings, of diffusers."""
        if self.deterministic or (torch.is_grad_enabled() and self.parameters.requires_grad):
            return self.mean + self.std * eps
        return self._new_std().mul_(eps).add_(self.mean)

    def _is_mean(self) -> bool:
        """Whether a sample is the mean."""
        return self.deterministic

    def _new_std(self) -> Tensor:
        """To be written over."""
        return self._scale.clamp(*CLAMP).mul_(0.5).exp_()
