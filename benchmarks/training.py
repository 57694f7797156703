"""Training steps: networks, each with the naive and the fused ELBO and with none, eager and compiled."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastvae
from fastvae.measure.clock import Call
from fastvae.measure.reports.document import FUSED, NAIVE
from fastvae.models import MLPVAE

from .variants import COMPILERS, compiled
from .workload import WrongVariantError

Model = Any  # an nn.Module with `encode` and `decode`
Objective = Callable[[Model, Tensor], Tensor]  # the loss of a model on a batch

MODES = {"eager": None, **{name: mode for name, (mode, _) in COMPILERS.items() if name != "max-autotune"}}
LOSSES = ("naive", "fastvae")
NETWORK = "network"  # the step without an ELBO
CHECKS, SPREADS = 24, 6.0  # losses to compare, and how many standard errors their means may differ


class ConvVAE(nn.Module):
    """64x64 RGB; every pixel has a mean and a log-variance of its own."""

    def __init__(self, width: int = 32, latent: int = 64) -> None:
        super().__init__()
        self.latent, sizes = latent, (3, width, 2 * width, 4 * width)
        down = [nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in pairwise(sizes)]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(256 * width, 2 * latent))
        ups = ((4 * width, 2 * width), (2 * width, width))
        up = [nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in ups]
        start = (nn.Linear(latent, 256 * width), nn.Unflatten(1, (4 * width, 8, 8)))
        self.decoder = nn.Sequential(*start, *up, nn.ConvTranspose2d(width, 6, 4, 2, 1))

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def _naive_sample(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    std = torch.exp(0.5 * log_var)
    kl = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)
    return mean + std * torch.randn_like(std), kl


def bernoulli_naive(model: Model, x: Tensor) -> Tensor:
    z, kl = _naive_sample(*model.encode(x))
    return F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="sum") / len(x) + kl.mean()


def bernoulli_fused(model: Model, x: Tensor) -> Tensor:
    z, kl = fastvae.rsample_kl(*model.encode(x))
    return fastvae.elbo(fastvae.bernoulli_log_prob(x, model.decode(z)), kl).loss


def bernoulli_one_pass(model: Model, x: Tensor) -> Tensor:
    z, kl = fastvae.rsample_kl(*model.encode(x))
    log_px = fastvae.bernoulli_log_prob(x, model.decode(z), reduction="mean")
    return fastvae.elbo(log_px, kl.mean()).loss


def bernoulli_fused_head(model: Model, x: Tensor) -> Tensor:
    z, kl = fastvae.rsample_kl(*model.encode(x))
    hidden, layer = F.relu(model.decoder(z)), model.logits
    log_px = fastvae.linear_bernoulli_log_prob(x, hidden, layer.weight, bias=layer.bias, reduction="mean")
    return fastvae.elbo(log_px, kl.mean()).loss


def gaussian_naive(model: Model, x: Tensor) -> Tensor:
    z, kl = _naive_sample(*model.encode(x))
    mean, log_var = model.decode(z).chunk(2, dim=1)
    log_px = -0.5 * ((x - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)).sum((1, 2, 3))
    return (kl - log_px).mean()


def gaussian_fused(model: Model, x: Tensor) -> Tensor:
    z, kl = fastvae.rsample_kl(*model.encode(x))
    mean, log_var = model.decode(z).chunk(2, dim=1)
    return fastvae.elbo(fastvae.gaussian_log_prob(x, mean, log_var), kl).loss


K = 50


def iwae_naive(model: Model, x: Tensor) -> Tensor:
    """Burda et al. 2016, "Importance weighted autoencoders", eq. 8, as its ports to PyTorch have it."""
    mean, log_var = model.encode(x)
    std = torch.exp(0.5 * log_var)
    eps = torch.randn(K, *std.shape, dtype=std.dtype, device=std.device)
    z = mean + std * eps
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    log_q = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
    logits = model.decode(z)
    log_px = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    return -(torch.logsumexp(log_px + log_prior - log_q, 0) - math.log(K)).mean()


def iwae_fused(model: Model, x: Tensor) -> Tensor:
    mean, log_var = model.encode(x)
    z = fastvae.rsample(mean, log_var, num_samples=K)
    log_prior = fastvae.gaussian_log_prob(z, torch.zeros_like(mean), 0.0, event_ndim=1)
    log_q = fastvae.gaussian_log_prob(z, mean, log_var, event_ndim=1)
    log_px = fastvae.bernoulli_log_prob(x, model.decode(z), event_ndim=1)
    return -(torch.logsumexp(log_px + log_prior - log_q, 0) - math.log(K)).mean()


@dataclass(frozen=True)
class Task:
    """A network, a batch of what it is trained on, and its two ELBOs."""

    name: str
    reason: str
    model: Callable[[], Model]
    event: tuple[int, ...]
    batch: dict[str, int]  # by device
    objectives: dict[str, Objective]
    samples: tuple[int, ...] = ()  # leading axes of z
    quick: bool = False


TASKS = (
    Task(
        "MLP VAE 64-400-20",
        "digits of 64 pixels, as in the demo: calls, and hardly any arithmetic",
        partial(MLPVAE, 64),
        (64,),
        {"cpu": 128, "cuda": 128},
        {"naive": bernoulli_naive, "fastvae": bernoulli_fused},
    ),
    Task(
        "MLP VAE 784-400-20",
        "PyTorch's example, at its batch: launches and two matrix products",
        MLPVAE,
        (784,),
        {"cpu": 128, "cuda": 128},
        {"naive": bernoulli_naive, "fastvae": bernoulli_fused},
        quick=True,
    ),
    Task(
        "MLP VAE 784-400-20, 1024 rows",
        "the same at a batch where arithmetic outweighs launches; the mean alone is wanted, so in one pass",
        MLPVAE,
        (784,),
        {"cpu": 1024, "cuda": 1024},
        {"naive": bernoulli_naive, "fastvae": bernoulli_one_pass},
    ),
    Task(
        "MLP VAE 9000-96-20",
        "a decoder's last layer that is wide: memory",
        partial(MLPVAE, 9000, 96),
        (9000,),
        {"cpu": 512, "cuda": 6000},
        {"naive": bernoulli_naive, "fastvae": bernoulli_fused_head},
    ),
    Task(
        "conv VAE 64x64 RGB",
        "two parameters for every pixel, below convolutions",
        ConvVAE,
        (3, 64, 64),
        {"cpu": 32, "cuda": 128},
        {"naive": gaussian_naive, "fastvae": gaussian_fused},
    ),
    Task(
        "IWAE 784-400-20, K = 50",
        "as many decoder rows as fifty batches",
        MLPVAE,
        (784,),
        {"cpu": 20, "cuda": 100},
        {"naive": iwae_naive, "fastvae": iwae_fused},
        (K,),
    ),
)


@dataclass(frozen=True)
class TrainingCase:
    task: Task

    @property
    def group(self) -> tuple:
        return ("training", self.task.name)

    def __str__(self) -> str:
        return self.task.name


def cases(suite: str) -> list[TrainingCase]:
    return [TrainingCase(task) for task in TASKS if suite == "full" or task.quick]


def names(device: str) -> list[str]:
    """ "fastvae, eager", "naive, compiled", "network, eager", ..."""
    modes = [name for name in MODES if name == "eager" or device in COMPILERS[name][1]]
    return [f"{loss}, {mode}" for mode in modes for loss in ("fastvae", "naive", NETWORK)]


@dataclass
class TrainingExperiment:
    case: TrainingCase
    device: str
    compiler: str = "inductor"
    sets: int = 1
    cold: bool = False
    _calls: dict[str, Call] = field(default_factory=dict)
    _first_seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.case.task
        torch.manual_seed(0)
        self.model = task.model().to(self.device)
        self.batch = torch.rand((task.batch[self.device], *task.event), device=self.device)

    def call(self, name: str, case: TrainingCase) -> Call:
        if name not in self._calls:
            loss, mode = name.split(", ")
            model = copy.deepcopy(self.model)  # each trains its own
            if loss == NETWORK:
                step = self._network_step(model, compiled(_network, MODES[mode], self.compiler))
            else:
                objective = compiled(self.case.task.objectives[loss], MODES[mode], self.compiler)
                start = perf_counter()
                objective(model, self.batch).backward()
                self._first_seconds[name] = perf_counter() - start
                self._verify(model, objective)
                step = self._step(model, objective)
            self._calls[name] = Call(step, captured=False, loop=True)  # as users run it: launched from Python
        return self._calls[name]

    def _step(self, model: Model, objective: Objective) -> Callable[[int, Any], object]:
        optimizer, batch = _adam(model), self.batch

        def step(i: int, _: object) -> None:
            optimizer.zero_grad(set_to_none=True)
            objective(model, batch).backward()
            optimizer.step()

        return step

    def _network_step(self, model: Model, network: Callable) -> Callable[[int, Any], object]:
        """The same step with given gradients in the ELBO's place: what remains of a step if the ELBO costs nothing."""
        optimizer, batch = _adam(model), self.batch
        mean, log_var = model.encode(batch)
        z = torch.randn(*self.case.task.samples, *mean.shape, device=self.device, requires_grad=True)
        outputs = (mean, log_var, model.decode(z))
        grads = [torch.randn_like(output) / len(batch) for output in outputs]

        def step(i: int, _: object) -> None:
            optimizer.zero_grad(set_to_none=True)
            z.grad = None
            torch.autograd.backward(network(model, batch, z), grads)
            optimizer.step()

        return step

    def _verify(self, model: Model, objective: Objective) -> None:
        """The mean loss over draws of noise is that of the naive objective in float64; gradients are finite."""
        truth, batch = copy.deepcopy(self.model).double(), self.batch.double()
        with torch.no_grad():
            true_losses = torch.stack([self.case.task.objectives["naive"](truth, batch) for _ in range(CHECKS)])
        losses = torch.stack([objective(model, self.batch).detach().clone() for _ in range(CHECKS)]).double()
        error = (true_losses.var() + losses.var()).div(CHECKS).sqrt()
        difference = abs(float(losses.mean() - true_losses.mean()))
        if not difference <= SPREADS * float(error) + 1e-4 * abs(float(true_losses.mean())):
            raise WrongVariantError(f"the mean loss is off by {difference:.2e} nats, standard error {error:.1e}")
        objective(model, self.batch).backward()
        if not all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters()):
            raise WrongVariantError("a gradient is missing or not finite")

    def role(self, name: str) -> str:
        return FUSED if name.startswith("fastvae") else NAIVE

    def info(self, name: str, case: TrainingCase) -> dict[str, Any]:
        loss, mode = name.split(", ")
        return {
            "kind": "training",
            "loss": loss,
            "mode": mode,
            "batch": len(self.batch),
            "reason": case.task.reason,
            "first_call_seconds": self._first_seconds.get(name),
        }

    def derived(self, samples: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
        """What of a step the ELBO takes: the step minus the same network's without one, round by round."""
        fields = {}
        for name, seconds in samples.items():
            network = samples.get(f"{NETWORK}, {name.split(', ')[1]}")
            if network is not None and not name.startswith(NETWORK):
                pairs = zip(seconds, network, strict=True)
                fields[name] = {"elbo_seconds": median(whole - rest for whole, rest in pairs)}
        return fields


def _network(model: Model, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, log_var = model.encode(x)
    return mean, log_var, model.decode(z)


def _adam(model: Model) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
