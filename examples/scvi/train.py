"""Training scvi-tools' SCVI on synthetic counts, before and after `patch()`.

    python examples/scvi/train.py [--genes 2000] [--epochs 3] [--seeds 1]

prints the negative ELBOs, of the cells trained on and of those held out, which agree, and the seconds of an epoch.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import NamedTuple

import anndata
import numpy as np
import scvi
import torch

from fastvae.integrations import scvi as fast

CELLS = 1280


class Run(NamedTuple):
    train: list[float]  # negative ELBOs, one for each epoch
    validation: list[float]
    seconds: float  # of an epoch, the first aside


def synthetic(genes: int) -> anndata.AnnData:
    """Counts of cells of four kinds, most of them zero."""
    generator = np.random.default_rng(0)
    profiles = generator.gamma(0.3, 2.0, (4, genes))
    rates = profiles[generator.integers(0, 4, CELLS)] * generator.gamma(5.0, 0.2, (CELLS, 1))
    return anndata.AnnData(generator.poisson(rates).astype(np.float32))


def train(likelihood: str, genes: int, epochs: int = 3, seed: int = 0) -> Run:
    scvi.settings.seed = seed
    data = synthetic(genes)
    scvi.model.SCVI.setup_anndata(data)
    model = scvi.model.SCVI(data, gene_likelihood=likelihood)
    options = {"accelerator": "cpu", "train_size": 0.8, "batch_size": 128, "enable_progress_bar": False}
    model.train(max_epochs=1, check_val_every_n_epoch=1, **options)
    start = perf_counter()
    model.train(max_epochs=epochs, check_val_every_n_epoch=1, **options)
    seconds = (perf_counter() - start) / epochs
    losses = ([float(loss) for loss in model.history[f"elbo_{of}"][f"elbo_{of}"]] for of in ("train", "validation"))
    return Run(*losses, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(2)
    for likelihood in ("zinb", "nb", "poisson"):
        for seed in range(options.seeds):
            before = train(likelihood, options.genes, options.epochs, seed)
            with fast.patch() as patch:
                after = train(likelihood, options.genes, options.epochs, seed)
            losses = f"training {before.train[-1]:.4f} and {after.train[-1]:.4f}"
            losses += f", held out {before.validation[-1]:.4f} and {after.validation[-1]:.4f}"
            times = f"{before.seconds:.2f} s an epoch, patched {after.seconds:.2f} s"
            print(f"{likelihood}, {options.genes} genes, seed {seed}: {losses}; {times}", flush=True)
    print(patch)


if __name__ == "__main__":
    main()
