"""The variational autoencoder: an encoder, a decoder, the likelihood between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import functional
from ..functional import ElboTerms
from ..functional._arguments import FreeBitsOver, Reduction
from . import head
from .likelihood import Observation
from .objective import CapacityOver, Estimator, Objective, terms


class VAE(nn.Module):
    """q(z|x) = N(mean, std^2) by an encoder, p(x|z) by a decoder, p(z) = N(0, I).

    Subclass it, or give it any two modules.

    Args:
        encoder: float images [batch, C, H, W] -> [batch, 2 L], mean and log-variance side by side.
        decoder: z [rows, L] -> [rows, P C H W] or [rows, P C, H, W], P = `observation.num_outputs` numbers a pixel, the
            parameters of p(x|z) one after the other.
        observation: p(x|z), which knows the shape of an image.
        latents: L.
        fused_head: p(x|z) takes the decoder's last layer, an nn.Linear, with it: the parameters are never whole in
            memory. Values are the same.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes".
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        observation: Observation,
        latents: int,
        *,
        fused_head: bool = False,
    ) -> None:
        super().__init__()
        self.fused_head = fused_head
        self.encoder, self.decoder, self.observation, self.latents = encoder, decoder, observation, latents

    @property
    def image_shape(self) -> torch.Size:
        """(C, H, W)."""
        return self.observation.image_shape

    def images(self, x: Tensor) -> Tensor:
        """x [batch, C, H, W] or [batch, pixels] as the former, in its own dtype."""
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.image_shape.numel():
            raise ValueError(f"x must be [batch, *{list(self.image_shape)}] or flat images, got {list(x.shape)}")
        return x.reshape(-1, *self.image_shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), both [batch, L]: views of what the encoder gives.

        x is [batch, C, H, W] or [batch, pixels], floating, bool or uint8.
        """
        dtype = next(self.parameters()).dtype
        mean, log_var = self.encoder(self.observation.encoder_input(self.images(x), dtype)).chunk(2, -1)
        return mean, log_var

    def decode(self, z: Tensor) -> tuple[Tensor, ...]:
        """The parameters of p(x|z), as `fastvae.NAME_log_prob` takes them, of z [*samples, batch, L].

        Those that depend on z are [*samples, batch, C, H, W], views of what the decoder gives.
        """
        samples, count = z.shape[:-1], self.observation.num_outputs
        packed = self.decoder(z.flatten(0, -2)).unflatten(1, (count, -1))
        outputs = [output.reshape(*samples, *self.image_shape) for output in packed.unbind(1)]
        return self.observation.parameters_of(outputs)

    def log_prob(self, x: Tensor, z: Tensor, *, reduction: Reduction = "none") -> Tensor:
        """log p(x|z) in nats, [*samples, batch], of z [*samples, batch, L]; 0-d with a `reduction`, in one pass."""
        if self.fused_head:
            inputs, layer = head.split(self.decoder, z.flatten(0, -2))
            inputs = inputs.unflatten(0, z.shape[:-1])
            return self.observation.linear_log_prob(self.images(x), inputs, layer, reduction)
        return self.observation.log_prob(self.images(x), self.decode(z), reduction)

    def forward(
        self,
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
        """The bound on log p(x), its parts, and the loss; see `fastvae.models.objective.terms` for the keywords."""
        return terms(
            self,
            x,
            num_samples=num_samples,
            objective=objective,
            estimator=estimator,
            beta=beta,
            free_bits=free_bits,
            free_bits_over=free_bits_over,
            capacity=capacity,
            capacity_over=capacity_over,
            seed=seed,
            eps=eps,
        )

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """n images [n, C, H, W] in [0, 1]: the mean of p(x|z) at z ~ N(0, I).

        One seed gives the same z on every device.
        """
        standard = next(self.parameters()).new_zeros(n, self.latents)
        return self.pixels(functional.rsample(standard, standard, seed=seed, generator=generator))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z), [batch, C, H, W], at the mean of q(z|x)."""
        return self.pixels(self.encode(x)[0])

    def pixels(self, z: Tensor) -> Tensor:
        """The mean of p(x|z), [*samples, batch, C, H, W], of z [*samples, batch, L]; of images in [0, 1]."""
        return self.observation.mean(self.decode(z))
