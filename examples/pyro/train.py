"""Training a VAE by Pyro's SVI, on random images, before and after `patch()`.

    python examples/pyro/train.py

prints the losses, which are equal, and times.
"""

from __future__ import annotations

import sys
from time import perf_counter

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from fastvae.integrations import pyro as fast

PIXELS, HIDDEN, LATENTS = 784, 64, 8


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(x.new_zeros(len(x), LATENTS), x.new_ones(len(x), LATENTS)).to_event(1))
            pyro.sample("x", Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            mean, log_std = self.encoder(x).chunk(2, dim=1)
            pyro.sample("z", Normal(mean, log_std.exp()).to_event(1))


ELBOS = {"Trace_ELBO": Trace_ELBO, "Trace_ELBO, 3 particles": lambda: Trace_ELBO(3, vectorize_particles=False),
         "TraceMeanField_ELBO": TraceMeanField_ELBO}  # fmt: skip


def train(name: str, steps: int = 20) -> tuple[list[float], float]:
    """The loss of each step, per image, and seconds."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    vae, x = VAE(), torch.rand(128, PIXELS).round()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=ELBOS[name]())
    start = perf_counter()
    losses = [svi.step(x) / len(x) for _ in range(steps)]
    return losses, perf_counter() - start


def main() -> None:
    noise = sys.argv[1] if len(sys.argv) > 1 else "torch"
    before = {name: train(name) for name in ELBOS}
    with fast.patch(noise) as patch:
        print(patch)
        after = {name: train(name) for name in ELBOS}
    for name in ELBOS:
        for what, (losses, seconds) in (("", before[name]), (" patched", after[name])):
            print(f"{name}{what}: losses {losses[0]:.4f} ... {losses[-1]:.4f}; {1e3 * seconds:.0f} ms")


if __name__ == "__main__":
    main()
