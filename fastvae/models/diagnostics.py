"""What a trained model is worth: its likelihood by importance sampling, and which latents it uses."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import functional
from ..ops.noise import as_seed, draw_seed
from .objective import log_weights
from .vae import VAE

ACTIVE = 0.01  # variance of the posterior's mean above which a latent counts as active
PIXELS_AT_ONCE = 2**18  # that a decoder makes in a chunk of samples: 1 MiB of float32 for each parameter


class PosteriorCollapseWarning(UserWarning):
    """Latents in which q(z|x) is the prior, whatever x."""


class LatentStatistics(NamedTuple):
    """Of q(z|x) over data, each [L], float64."""

    kl: Tensor  # nats, the mean over the data
    variance: Tensor  # of the posterior's mean

    @property
    def active(self) -> Tensor:
        """Burda et al. 2016, "Importance weighted autoencoders", section 5.2: bool, [L]."""
        return self.variance > ACTIVE


@torch.no_grad()
def latent_statistics(model: VAE, batches: Iterable[Tensor]) -> LatentStatistics:
    """KL of each latent and how far its posterior mean moves, in one pass over `batches` of images.

    Raises:
        ValueError: there is no image.
    """
    count, kl, mean, squares = 0, *torch.zeros(3, 1, dtype=torch.float64).unbind()
    with evaluating(model):
        for x in batches:
            mu, log_var = model.encode(x)
            kl = kl.to(mu.device) + functional.kl_standard_normal(mu, log_var, event_ndim=0).double().sum(0)
            # Chan et al. 1983, "Algorithms for computing the sample variance", eq. 1.5
            n, mu = len(x), mu.double()
            shift = mu.mean(0) - mean.to(mu.device)
            squares = (
                squares.to(mu.device) + (mu - mu.mean(0)).square().sum(0) + shift.square() * count * n / (count + n)
            )
            mean = mean.to(mu.device) + shift * n / (count + n)
            count += n
    if count == 0:
        raise ValueError("batches must hold at least one image")
    return LatentStatistics(kl / count, squares / max(count - 1, 1))


def warn_of_collapse(statistics: LatentStatistics) -> list[int]:
    """The latents that are not active; a PosteriorCollapseWarning names them where there are any."""
    collapsed: list[int] = (~statistics.active).nonzero().flatten().tolist()
    if collapsed:
        latents = ", ".join(map(str, collapsed))
        nats = statistics.kl[collapsed].max().item()
        warnings.warn(
            f"posterior collapse: {len(collapsed)} of {len(statistics.kl)} latents tell nothing of x "
            f"(variance of the posterior's mean at most {ACTIVE}, KL at most {nats:.2g} nats): {latents}",
            PosteriorCollapseWarning,
            stacklevel=2,
        )
    return collapsed


@torch.no_grad()
def importance_sampled_log_likelihood(
    model: VAE, x: Tensor, num_samples: int = 5000, *, max_rows: int | None = None, seed: int | Tensor | None = None
) -> Tensor:
    """An estimate of log p(x) for each image: the K-sample bound, whatever K, in bounded memory.

    Args:
        model: in evaluation mode for the time being.
        x: images, on the model's device.
        num_samples: K >= 1.
        max_rows: how many samples are decoded at once. None: as many as make 262,144 pixels.
        seed: of the noise; the estimate depends on `max_rows` as well.

    Shape:
        x is [batch, C, H, W] or [batch, pixels].

    Returns:
        Nats, [batch], float64. It is below log p(x) on average.

    Raises:
        ValueError: num_samples or max_rows below 1.

    Reference:
        Burda et al. 2016, "Importance weighted autoencoders", section 5.
    """
    rows = max(PIXELS_AT_ONCE // model.image_shape.numel(), 1) if max_rows is None else max_rows
    for name, value in (("num_samples", num_samples), ("max_rows", rows)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    key = draw_seed(x) if seed is None else as_seed(seed, x.device)
    at_once = min(num_samples, rows)
    with evaluating(model):
        parts = []
        for images in x.split(max(rows // at_once, 1)):
            total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=x.device)
            for start in range(0, num_samples, at_once):
                log_w = log_weights(model, images, min(at_once, num_samples - start), key)
                total = torch.logaddexp(total, log_w.double().logsumexp(0))
                key = key + 1  # another stream
            parts.append(total - math.log(num_samples))
    return torch.cat(parts) if parts else x.new_empty(0, dtype=torch.float64)


def bits_per_dim(log_px: Tensor, dims: int, *, levels: int = 1) -> Tensor:
    """-log_px / (dims log 2) + log2(levels).

    Args:
        log_px: nats.
        dims: numbers in an image.
        levels: 256 where log_px is a density of pixels in [0, 1] that are read as so many grey levels; 1 where it is a
            probability, of bits or counts.

    Shape:
        As log_px.

    Reference:
        Theis et al. 2016, "A note on the evaluation of generative models", section 3.1.
    """
    return -log_px / (dims * math.log(2)) + math.log2(levels)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model.eval()`, taken back at the end."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
