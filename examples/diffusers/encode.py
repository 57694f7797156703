"""Encoding and training with diffusers' AutoencoderKL, of random weights, before and after `patch()`.

    python examples/diffusers/encode.py

prints values, which are equal, and times.
"""

from __future__ import annotations

import copy
import sys
from time import perf_counter

import torch
from diffusers import AutoencoderKL

from fastvae.integrations import diffusers


def model() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor) -> dict[str, torch.Tensor]:
    posterior = vae.encode(images).latent_dist
    sample = posterior.sample(torch.Generator().manual_seed(1))
    return {"mode": posterior.mode(), "kl": posterior.kl(), "nll": posterior.nll(sample), "sample": sample}


def train(vae: AutoencoderKL, images: torch.Tensor, steps: int) -> list[float]:
    vae, losses = copy.deepcopy(vae), []
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    torch.manual_seed(2)
    for _ in range(steps):
        posterior = vae.encode(images).latent_dist
        reconstruction = vae.decode(posterior.sample()).sample
        loss = (reconstruction - images).square().sum((1, 2, 3)).mean() + 1e-2 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def milliseconds(posterior: type, moments: torch.Tensor) -> float:
    """Of a sample and its divergence, forward and backward, the least of several."""
    seconds = []
    for _ in range(20):
        start = perf_counter()
        q = posterior(moments)
        torch.autograd.grad(q.sample().sum() + q.kl().sum(), moments)
        seconds.append(perf_counter() - start)
    return 1e3 * min(seconds)


def main() -> None:
    noise = sys.argv[1] if len(sys.argv) > 1 else "torch"
    vae, images = model(), torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    moments = torch.randn(8, 8, 64, 64, requires_grad=True)

    def measured() -> tuple[dict[str, torch.Tensor], list[float], float]:
        posterior = type(vae.encode(images).latent_dist)
        return encode(vae, images), train(vae, images, 5), milliseconds(posterior, moments)

    before = measured()
    with diffusers.patch(noise) as patch:
        print(patch)
        after = measured()
    for name, value in before[0].items():
        print(f"{name}: {value.flatten()[0]:.6f}, {after[0][name].flatten()[0]:.6f} patched;"
              f" largest difference {(value - after[0][name]).abs().max():.1e}")  # fmt: skip
    print("losses:", *(f"{loss:.4f}" for loss in before[1]))
    print("losses, patched:", *(f"{loss:.4f}" for loss in after[1]))
    print(f"sample, KL and gradient of 8x8x64x64 moments: {before[2]:.2f} ms, {after[2]:.2f} ms patched")


if __name__ == "__main__":
    main()
