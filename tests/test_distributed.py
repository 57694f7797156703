"""DTensors on two processes, held against the same tensors whole: values, gradients, placements.

The processes are started once, do everything that is named here, and leave what went wrong in a file.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import torch

if not torch.distributed.is_available():
    pytest.skip("this torch was built without torch.distributed", allow_module_level=True)

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Placement, Replicate, Shard, distribute_tensor

import examples
import fastvae
from fastvae.formulas import likelihood as formulas
from fastvae.models import Settings, build
from fastvae.ops import OPERATORS, Likelihood, Operator
from fastvae.ops.likelihood import BERNOULLI_LOG_PROB

WORLD = 2
ROWS, COLUMNS, WHOLE, SUM = Shard(0), Shard(1), Replicate(), Partial()
Placements = tuple[Placement, ...]


class Case(NamedTuple):
    """`call` of operands that are so placed. How its results and gradients are to be, where None does not say.

    Of the operands, the first `constants` are not differentiable.
    """

    call: Callable[..., Any]
    operands: tuple[Tensor, ...]
    placements: Placements
    results: Placements | None = None
    gradients: Placements | None = None
    constants: int = 0


# --- every operator ---

# By name the shape of the last operand, how that and the others are placed, and their gradients. Five rows on two
# processes are three and two.
LAYOUTS: dict[str, tuple[tuple[int, ...], Placement, Placement, Placement, Placement]] = {
    "rows": ((5, 6), ROWS, ROWS, ROWS, ROWS),
    "columns": ((5, 6), COLUMNS, COLUMNS, COLUMNS, COLUMNS),
    "replicated": ((5, 6), WHOLE, WHOLE, WHOLE, WHOLE),
    "rows, the last replicated": ((5, 6), WHOLE, ROWS, ROWS, ROWS),
    "a value for each column": ((6,), WHOLE, ROWS, SUM, ROWS),
    "one value": ((), WHOLE, ROWS, SUM, ROWS),
}


def cases_of(operator: Operator) -> Iterator[tuple[str, Case]]:
    example = examples.EXAMPLES[operator.name]
    reductions = ("none", "sum", "mean") if isinstance(operator, Likelihood) or operator.name == "elbo" else (None,)
    constants = len(operator.operands) - len(operator.differentiable)
    for reduction in reductions:
        keywords = {**example.keywords, **({} if reduction is None else {"reduction": reduction})}
        for layout, (shape, *placed) in LAYOUTS.items():
            if "beta" in operator.operands and layout != "one value":
                continue
            *others, last = (examples.operand(operator, n, (5, 6)) for n in operator.operands)
            last = examples.operand(operator, operator.operands[-1], shape)
            placements = [*(placed[1] for _ in others), placed[0]]
            gradients = [*(placed[3] for _ in others), placed[2]]
            results = tuple(result_of(operator, output, placed[1], keywords) for output in operator.outputs)
            call = functools.partial(example.call, **keywords)
            yield (
                f"{operator.name}, {reduction}, {layout}",
                Case(call, (*others, last), tuple(placements), results, tuple(gradients[constants:]), constants),
            )


def result_of(operator: Operator, output: str, placement: Placement, keywords: dict[str, Any]) -> Placement:
    """Of operands that lie so: a sum over what is sharded is still to come."""
    if placement.is_replicate() or output not in operator.summed:
        return placement
    reduced = keywords.get("reduction", "none") != "none"
    return SUM if reduced or (placement == COLUMNS and "event_ndim" in keywords) else placement


# --- keywords and combinations ---


def step(mean: Tensor, log_var: Tensor, x: Tensor) -> fastvae.ElboTerms:
    z, kl = fastvae.rsample_kl(mean, log_var, seed=3)
    return fastvae.elbo(fastvae.bernoulli_log_prob(x, z * 2), kl, 0.5)


def loss_in_one_pass(mean: Tensor, log_var: Tensor, x: Tensor) -> Tensor:
    z, kl = fastvae.rsample_kl(mean, log_var, seed=3)
    return 0.3 * kl.mean() - fastvae.bernoulli_log_prob(x, z * 2, reduction="mean")


def penalty(log_prob: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """Of gradients: it is differentiated twice."""
    return sum(g.sin().sum() for g in torch.autograd.grad(log_prob(*operands).sum(), operands, create_graph=True))


def floors() -> Iterator[tuple[str, Case]]:
    for over in ("element", "latent", "sample", "batch"):
        keywords: dict[str, Any] = {"event_ndim": 1, "free_bits": 0.4, "free_bits_over": over}
        plain = functools.partial(fastvae.kl_standard_normal, **keywords)
        sampled = functools.partial(fastvae.rsample_kl, seed=3, **keywords)
        weighted = lambda m, s, w, f=plain: f(m, s, weight=w)  # noqa: E731
        yield f"free_bits over {over}", Case(plain, reals(2), (ROWS,) * 2, (ROWS,), (ROWS,) * 2)
        yield f"free_bits over {over}, sampled", Case(sampled, reals(2), (ROWS,) * 2, (ROWS,) * 2, (ROWS,) * 2)
        yield f"free_bits over {over}, weighted", Case(weighted, reals(3), (ROWS,) * 3, (ROWS,), (ROWS,) * 3)
        yield f"free_bits over {over}, a second batch dimension", Case(plain, reals(2, (3, 5, 6)), (COLUMNS,) * 2)


def reals(count: int, shape: tuple[int, ...] = (5, 6)) -> tuple[Tensor, ...]:
    return tuple(torch.rand(shape) for _ in range(count))


def combinations() -> Iterator[tuple[str, Case]]:
    gaussian = functools.partial(fastvae.gaussian_log_prob, event_ndim=1)
    channels = torch.rand(1, 3, 1, 1)
    images = (*reals(2, (5, 3, 4, 4)), channels)
    yield "a step", Case(step, reals(3), (ROWS,) * 3, (SUM,) * 4, (ROWS,) * 3)
    yield "a step in one pass", Case(loss_in_one_pass, reals(3), (ROWS,) * 3, (SUM,), (ROWS,) * 3)
    yield "a step of one row", Case(step, reals(3, (1, 6)), (ROWS,) * 3)
    yield "an empty batch", Case(step, reals(3, (0, 6)), (ROWS,) * 3)
    for reduction in ("none", "mean"):
        call = functools.partial(fastvae.gaussian_log_prob, reduction=reduction)
        yield f"images, {reduction}", Case(call, images, (ROWS, ROWS, WHOLE), None, (ROWS, ROWS, SUM))
        yield f"images by height, {reduction}", Case(call, images, (Shard(2), Shard(2), WHOLE), (SUM,))
        optimal = functools.partial(gaussian, log_var="optimal", reduction=reduction)
        yield f"the optimal variance, {reduction}", Case(optimal, reals(2), (ROWS,) * 2, None, (ROWS,) * 2)
        number = functools.partial(gaussian, log_var=0.3, reduction=reduction)
        yield f"a number for log_var, {reduction}", Case(number, reals(2), (ROWS,) * 2, None, (ROWS,) * 2)
        masked = lambda x, m, r=reduction: fastvae.bernoulli_log_prob(x, m, mask=x > 0.5, reduction=r)  # noqa: E731
        yield f"mask, {reduction}", Case(masked, reals(2), (ROWS,) * 2, None, (ROWS,) * 2)
        weighted = lambda x, m, w, r=reduction: fastvae.bernoulli_log_prob(x, m, weight=w, reduction=r)  # noqa: E731
        yield f"weight, {reduction}", Case(weighted, reals(3), (ROWS,) * 3, None, (ROWS,) * 3)
        constant = lambda x, m, w, r=reduction: gaussian(x, m, 0.3, weight=w.detach(), reduction=r) + w.sum()  # noqa: E731
        yield f"a constant weight, {reduction}", Case(constant, (*reals(2), torch.rand(6)), (ROWS, ROWS, WHOLE))
    of_counts = lambda x, a, r: fastvae.multinomial_log_prob(x.detach() * 4, a, reduction=r)  # noqa: E731
    of_class = lambda x, a, r: fastvae.categorical_log_prob((x.detach()[:, 0] * 6).int(), a, reduction=r)  # noqa: E731
    for name, call in (("counts of classes", of_counts), ("a class", of_class)):
        for reduction, result in (("none", ROWS), ("mean", SUM)):
            of_rows = functools.partial(call, r=reduction)
            yield f"{name}, {reduction}", Case(of_rows, reals(2), (ROWS,) * 2, (result,), (ROWS,), constants=1)
    of_layer = lambda x, h, w, r: fastvae.linear_multinomial_log_prob(x.detach() * 4, h, w, reduction=r)  # noqa: E731
    for reduction, result in (("none", ROWS), ("mean", SUM)):
        call = functools.partial(of_layer, r=reduction)
        case = Case(call, reals(3, (6, 6)), (ROWS, ROWS, WHOLE), (result,), (ROWS, SUM), constants=1)
        yield f"a layer and its counts, {reduction}", case
    by_classes = functools.partial(of_counts, r="none")
    yield "counts, sharded by classes", Case(by_classes, reals(2), (COLUMNS,) * 2, (WHOLE,), (WHOLE,), constants=1)
    yield "samples of one x", Case(gaussian, (*reals(1), *reals(2, (3, 5, 6))), (ROWS, COLUMNS, COLUMNS), (COLUMNS,))
    of_eps = lambda m, s, e: fastvae.rsample(m, s, eps=e)  # noqa: E731
    yield "eps", Case(of_eps, reals(3), (ROWS,) * 3, (ROWS,), (ROWS,) * 3)
    constant_eps = lambda m, s, e: fastvae.rsample_kl(m, s, eps=e.detach())[0] + e  # noqa: E731
    yield "constant eps", Case(constant_eps, reals(3), (ROWS,) * 3, (ROWS,), (ROWS,) * 3)
    for name, where, behind in (("rows", ROWS, COLUMNS), ("columns", COLUMNS, Shard(2))):
        samples = functools.partial(fastvae.rsample, num_samples=3, seed=3)
        yield f"samples of {name}", Case(samples, reals(2), (where,) * 2, (behind,), (where,) * 2)
    row_wise = functools.partial(penalty, gaussian)
    yield "twice", Case(row_wise, reals(3), (ROWS,) * 3, None, (ROWS,) * 3)
    yield "twice, one value", Case(row_wise, (*reals(2), torch.rand(())), (ROWS, ROWS, WHOLE), None, (ROWS, ROWS, SUM))
    in_one_pass = functools.partial(penalty, functools.partial(gaussian, reduction="mean"))
    yield "twice, in one pass", Case(in_one_pass, reals(3), (ROWS,) * 3, None, (ROWS,) * 3)


def all_cases() -> dict[str, Case]:
    torch.manual_seed(0)
    every = [case for operator in OPERATORS.values() for case in cases_of(operator)]
    return dict([*every, *floors(), *combinations()])


def check(case: Case) -> None:
    mesh = init_device_mesh("cpu", (WORLD,))
    leaves = [t.clone().requires_grad_() for t in case.operands]
    results = examples.several(case.call(*leaves))
    upstream = [torch.linspace(0.5, 1.5, r.numel()).reshape(r.shape) for r in results]
    grads = torch.autograd.grad(results, leaves[case.constants :], upstream)
    shards = [
        distribute_tensor(t, mesh, [p]).requires_grad_() for t, p in zip(case.operands, case.placements, strict=True)
    ]
    given = examples.several(case.call(*shards))
    given_upstream = [
        distribute_tensor(u, mesh, after_a_sum(g.placements)) for u, g in zip(upstream, given, strict=True)
    ]
    given_grads = torch.autograd.grad(given, shards[case.constants :], given_upstream)
    for value, wanted in zip((*given, *given_grads), (*results, *grads), strict=True):
        assert value.shape == wanted.shape
        torch.testing.assert_close(value.full_tensor(), wanted)
    for values, placements in ((given, case.results), (given_grads, case.gradients)):
        if placements is not None:
            assert [v.placements for v in values] == [(p,) for p in placements]


def after_a_sum(placements: Placements) -> list[Placement]:
    return [WHOLE if p.is_partial() else p for p in placements]


# --- what is no comparison with whole tensors ---


def noise_that_is_drawn_is_one_stream(sample: Callable[..., Tensor] = fastvae.rsample) -> None:
    mesh, rank = init_device_mesh("cpu", (WORLD,)), dist.get_rank()
    for keywords in ({}, {"generator": torch.Generator().manual_seed(rank)}) if sample is fastvae.rsample else ({},):
        for placement in (ROWS, WHOLE):
            torch.manual_seed(rank)  # each process draws a seed of its own
            mean = distribute_tensor(torch.zeros(4, 6), mesh, [placement])
            z = sample(mean, mean, **keywords)
            rows = z.full_tensor()
            assert len(set(rows.flatten().tolist())) == rows.numel()
            everyones = [torch.empty_like(rows) for _ in range(WORLD)]
            dist.all_gather(everyones, rows)
            assert torch.equal(*everyones)


def the_same_when_compiled() -> None:
    mesh = init_device_mesh("cpu", (WORLD,))
    leaves = [distribute_tensor(t, mesh, [ROWS]).requires_grad_() for t in reals(3, (6, 6))]
    compiled = torch.compile(lambda *operands: step(*operands).loss, fullgraph=True, backend="aot_eager")
    given, wanted = compiled(*leaves).full_tensor(), step(*leaves).loss.full_tensor()
    torch.testing.assert_close(given, wanted)
    grads = [torch.autograd.grad(loss, leaves) for loss in (given, wanted)]
    for grad, other in zip(*grads, strict=True):
        # Plain torch computes it, whose normals agree with a kernel's to 1e-6.
        torch.testing.assert_close(grad.full_tensor(), other.full_tensor(), rtol=1e-5, atol=1e-5)
    noise_that_is_drawn_is_one_stream(torch.compile(fastvae.rsample, fullgraph=True, backend="aot_eager"))


def meshes_of_two_dimensions() -> None:
    operands = reals(3)
    wanted = step(*operands)
    for shape in ((WORLD, 1), (1, WORLD)):
        mesh = init_device_mesh("cpu", shape)
        for placements in ([ROWS, ROWS], [ROWS, COLUMNS], [WHOLE, ROWS], [COLUMNS, WHOLE]):
            given = step(*(distribute_tensor(t, mesh, placements) for t in operands))
            torch.testing.assert_close([t.full_tensor() for t in given], list(wanted))


def one_number_need_be_no_dtensor() -> None:
    """Its gradient then is the whole one."""
    mesh = init_device_mesh("cpu", (WORLD,))
    x, mean = reals(2)
    scales = [torch.tensor(0.3, requires_grad=True) for _ in range(2)]
    wanted = fastvae.gaussian_log_prob(x, mean, scales[0], reduction="mean")
    shards = [distribute_tensor(t, mesh, [ROWS]) for t in (x, mean)]
    fastvae.gaussian_log_prob(*shards, scales[1], reduction="mean").backward()
    wanted.backward()
    assert type(scales[1].grad) is Tensor
    torch.testing.assert_close(scales[1].grad, scales[0].grad)


def tensors_beside_dtensors_are_an_error() -> None:
    shard = distribute_tensor(torch.rand(4, 6), init_device_mesh("cpu", (WORLD,)), [ROWS])
    with pytest.raises(TypeError, match=r"scale \[4, 6\] as a torch.Tensor beside DTensors"):
        fastvae.kl_standard_normal(shard, torch.rand(4, 6))


def a_likelihood_declared_later() -> None:
    """Nothing is to be said of shards."""
    later = Likelihood(
        "declared_later_log_prob",
        "Tensor x, Tensor logits",
        "float x_scale",
        formulas.bernoulli_log_prob,
        formulas.bernoulli_log_prob_gradient,
        BERNOULLI_LOG_PROB.support,
    )
    fastvae.backends.register({c.name: c for c in later.contracts})
    check(Case(lambda x, m: later.apply(x, m, None, 1, 1.0), reals(2), (ROWS,) * 2, (ROWS,), (ROWS,) * 2))
    check(Case(lambda x, m: later.total(0.2, x, m, None, 2, 1.0), reals(2), (ROWS,) * 2, (SUM,), (ROWS,) * 2))


def data_parallel_training() -> None:
    """torch.nn.parallel.DistributedDataParallel: the gradient of the whole batch."""
    x = torch.rand(4, 6)
    layers = [torch.nn.Linear(6, 6) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())

    def loss(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        hidden = layer(x)
        log_px = fastvae.bernoulli_log_prob(x, hidden, reduction="mean")
        return fastvae.kl_standard_normal(hidden, hidden.sin()).mean() - log_px

    loss(layers[0], x).backward()
    parallel = torch.nn.parallel.DistributedDataParallel(layers[1])
    loss(parallel, x.chunk(WORLD)[dist.get_rank()]).backward()
    for whole, mean in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        torch.testing.assert_close(mean.grad, whole.grad)


def fully_sharded_training() -> None:
    """torch.distributed.fsdp.fully_shard, of a model whose variance is one learned number: likewise."""
    settings = Settings(image_shape=(1, 2, 3), latents=2, hidden=(4,), likelihood="gaussian", variance="shared")
    model, sharded = build(settings), build(settings)
    sharded.load_state_dict(model.state_dict())
    x, eps = torch.rand(4, 1, 2, 3), torch.randn(4, 2)
    model(x, eps=eps).loss.backward()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (WORLD,)))
    mine = dist.get_rank()
    sharded(x.chunk(WORLD)[mine], eps=eps.chunk(WORLD)[mine]).loss.backward()
    for whole, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        torch.testing.assert_close(shard.grad.full_tensor(), whole.grad)


CHECKS = {
    **{
        function.__name__: function
        for function in (
            the_same_when_compiled,
            noise_that_is_drawn_is_one_stream,
            meshes_of_two_dimensions,
            one_number_need_be_no_dtensor,
            tensors_beside_dtensors_are_an_error,
            a_likelihood_declared_later,
            data_parallel_training,
            fully_sharded_training,
        )
    },
    **{name: functools.partial(check, case) for name, case in all_cases().items()},
}


def work(rank: int, folder: str) -> None:
    """One of the processes: what went wrong, by name."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/store", timeout=patience, rank=rank, world_size=WORLD)
    problems = {}
    for name, run in CHECKS.items():
        torch.manual_seed(0)
        try:
            run()
        except Exception:
            problems[name] = traceback.format_exc()
    torch.save(problems, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> list[dict[str, str]]:
    folder = str(tmp_path_factory.mktemp("processes"))
    torch.multiprocessing.spawn(work, (folder,), nprocs=WORLD)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", CHECKS)
def test_on_two_processes(name, problems):
    found = [problem[name] for problem in problems if name in problem]
    assert not found, "\n".join(found)


def test_who_has_no_dtensors_does_not_import_them():
    program = (
        "import sys, torch, fastvae; mean = torch.zeros(2, 3, requires_grad=True);"
        "fastvae.rsample_kl(mean, mean)[1].sum().backward();"
        "sys.exit('torch.distributed.tensor' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
