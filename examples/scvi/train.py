"""Training scvi-tools' SCVI on synthetic counts, before and after `patch()`.

    python examples/scvi/train.py [GENES]

prints the losses, which agree, and the seconds of an epoch.
"""

from __future__ import annotations

import sys
from time import perf_counter

import anndata
import numpy as np
import scvi
import torch

from fastvae.integrations import scvi as fast

CELLS = 1024


def synthetic(genes: int) -> anndata.AnnData:
    """Counts of cells of four kinds, most of them zero."""
    generator = np.random.default_rng(0)
    profiles = generator.gamma(0.3, 2.0, (4, genes))
    rates = profiles[generator.integers(0, 4, CELLS)] * generator.gamma(5.0, 0.2, (CELLS, 1))
    return anndata.AnnData(generator.poisson(rates).astype(np.float32))


def train(likelihood: str, genes: int, epochs: int = 3) -> tuple[list[float], float]:
    """The negative ELBO of each epoch, and seconds for one, the first aside."""
    scvi.settings.seed = 0
    data = synthetic(genes)
    scvi.model.SCVI.setup_anndata(data)
    model = scvi.model.SCVI(data, gene_likelihood=likelihood)
    model.train(max_epochs=1, accelerator="cpu", train_size=1.0, batch_size=128, enable_progress_bar=False)
    start = perf_counter()
    model.train(max_epochs=epochs, accelerator="cpu", train_size=1.0, batch_size=128, enable_progress_bar=False)
    seconds = (perf_counter() - start) / epochs
    return [float(loss) for loss in model.history["elbo_train"]["elbo_train"]], seconds


def main() -> None:
    genes = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    torch.set_num_threads(2)
    for likelihood in ("zinb", "nb", "poisson"):
        before, slow = train(likelihood, genes)
        with fast.patch() as patch:
            after, quick = train(likelihood, genes)
        losses = f"losses {before[-1]:.4f} and {after[-1]:.4f}"
        print(f"{likelihood}, {genes} genes: {losses}; {slow:.2f} s an epoch, patched {quick:.2f} s")
    print(patch)


if __name__ == "__main__":
    main()
