"""Training pythae's VAE and IWAE, by its own trainer on random images, before and after `patch()`.

    python examples/pythae/train.py

prints the losses, which are equal, and times.
"""

from __future__ import annotations

import sys
import tempfile
from time import perf_counter

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from fastvae.integrations import pythae

SHAPE, LATENTS, EPOCHS = (1, 16, 16), 8, 2
MODELS = {
    "VAE, mse": lambda: VAE(VAEConfig(input_dim=SHAPE, latent_dim=LATENTS)),
    "VAE, bce": lambda: VAE(VAEConfig(input_dim=SHAPE, latent_dim=LATENTS, reconstruction_loss="bce")),
    "IWAE, mse": lambda: IWAE(IWAEConfig(input_dim=SHAPE, latent_dim=LATENTS, number_samples=5)),
    "IWAE, bce": lambda: IWAE(
        IWAEConfig(input_dim=SHAPE, latent_dim=LATENTS, number_samples=5, reconstruction_loss="bce")
    ),
}


def train(name: str) -> tuple[list[float], float]:
    """The mean loss of each epoch, and seconds."""
    torch.manual_seed(0)
    model, images = MODELS[name](), torch.rand(256, *SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(folder, per_device_train_batch_size=64, num_epochs=EPOCHS, no_cuda=True, seed=1)
        data = BaseDataset(images, torch.zeros(len(images)))
        trainer = BaseTrainer(model, train_dataset=data, training_config=config)
        trainer.prepare_training()
        start = perf_counter()
        losses = [float(trainer.train_step(epoch)) for epoch in range(1, EPOCHS + 1)]
        return losses, perf_counter() - start


def main() -> None:
    noise = sys.argv[1] if len(sys.argv) > 1 else "torch"
    before = {name: train(name) for name in MODELS}
    with pythae.patch(noise) as patch:
        print(patch)
        after = {name: train(name) for name in MODELS}
    for name in MODELS:
        for what, (losses, seconds) in (("", before[name]), (" patched", after[name])):
            print(f"{name}{what}: losses {', '.join(f'{loss:.4f}' for loss in losses)}; {1e3 * seconds:.0f} ms")


if __name__ == "__main__":
    main()
