"""What only a GPU shows: graphs and their noise, streams, devices that are not current, equality with the CPU."""

from __future__ import annotations

import pytest
import torch

import fastvae
from fastvae import backends

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: `make gpu-check` runs these on one")

SERVING = [name for name in ("triton", "native") if backends.BACKENDS[name].why_not("cuda") is None]


@pytest.fixture(params=SERVING or ["none"])
def gpu_backend(request):
    with backends.use(request.param):
        yield request.param


def parameters(*shape, device="cuda", dtype=torch.float32):
    return [torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(2)]


def loss(mean, log_var, x, seed=None):
    z, kl = fastvae.rsample_kl(mean, log_var, seed=seed)
    log_px = fastvae.bernoulli_log_prob(x, z) + fastvae.gaussian_log_prob(x, z, log_var)
    return fastvae.elbo(log_px, kl, 0.5).loss


def test_a_captured_graph_draws_fresh_noise_at_each_replay(gpu_backend):
    mean, log_var = parameters(64, 40)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            z, kl = fastvae.rsample_kl(mean, log_var)
            torch.autograd.grad(z.sum() + kl.sum(), (mean, log_var))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        z, kl = fastvae.rsample_kl(mean, log_var)
        _, gradient = torch.autograd.grad(z.sum() + kl.sum(), (mean, log_var))
    drawn = []
    for _ in range(3):
        graph.replay()
        drawn.append((z.detach().clone(), gradient.clone()))
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[1][0], drawn[2][0])
    for sample, found in drawn:
        # The backward of each replay has redrawn the noise of its forward.
        wanted = (sample - mean) / 2 + torch.expm1(log_var) / 2
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-5)


def test_noise_of_the_host_in_and_out_of_a_captured_graph(gpu_backend):
    mean, log_var = parameters(64, 40)
    drawn, again = (fastvae.rsample(mean, log_var, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(drawn, again)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        fastvae.rsample(mean, log_var)
        for noise in ({"generator": torch.Generator()}, {"seed": torch.tensor(1)}):
            with pytest.raises(RuntimeError, match="is on cpu, mean on cuda:0: while a CUDA graph is captured"):
                fastvae.rsample(mean, log_var, **noise)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_training_steps(mode, gpu_backend):
    mean, log_var = parameters(64, 40)
    x = torch.rand(64, 40, device="cuda")
    compiled = torch.compile(loss, fullgraph=True, mode=mode)
    losses = set()
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        value = compiled(mean, log_var, x)
        losses.add(value.item())
        value.backward()
        assert mean.grad.isfinite().all()
        mean.grad = log_var.grad = None
    assert len(losses) == 4
    seed = torch.tensor(3, device="cuda")
    torch.testing.assert_close(compiled(mean, log_var, x, seed), loss(mean, log_var, x, seed), rtol=1e-5, atol=1e-5)


def test_kernels_run_on_the_current_stream(gpu_backend):
    mean, log_var = parameters(4096, 4096)
    wanted = fastvae.kl_standard_normal(mean, log_var).detach()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        # What the operator reads is made on the stream, behind work that takes a while.
        for _ in range(20):
            late = mean * 1.0
        found = fastvae.kl_standard_normal(late, log_var).detach()
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(found, wanted)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU: no device that is not current")
def test_the_tensors_device_need_not_be_current(gpu_backend):
    mean, log_var = parameters(8, 20, device="cuda:1")
    with torch.cuda.device(0):
        z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
        (z.sum() + kl.sum()).backward()
    assert z.device.index == kl.device.index == mean.grad.device.index == 1


@pytest.mark.parametrize("shape", [(7, 20), (128, 784), (3, 70001), (2, 4, 16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_seed_gives_one_sample_on_gpu_and_cpu(shape, dtype, gpu_backend):
    cpu = parameters(*shape, device="cpu", dtype=dtype)
    gpu = [t.detach().cuda().requires_grad_() for t in cpu]
    z, kl = fastvae.rsample_kl(*gpu, seed=11)
    grads = torch.autograd.grad(z.float().square().sum() + kl.sum(), gpu)
    with backends.use("reference"):
        wanted_z, wanted_kl = fastvae.rsample_kl(*cpu, seed=11)
        wanted = torch.autograd.grad(wanted_z.float().square().sum() + wanted_kl.sum(), cpu)
    # Normals agree within 2e-6; a rounding of bfloat16 may then fall the other way.
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    for found, expected in zip((z, kl, *grads), (wanted_z, wanted_kl, *wanted), strict=True):
        torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=tolerance, atol=tolerance)


def test_normals_of_a_gpu(gpu_backend):
    zeros = torch.zeros(1_000_000)
    with backends.use("reference"):
        wanted = fastvae.rsample(zeros, zeros, seed=5)
    found = fastvae.rsample(zeros.cuda(), zeros.cuda(), seed=5).cpu()
    # PTX ISA: lg2.approx errs by 2^-22 of itself, which is 2^-23 of its root, sqrt.approx by 2^-23: at 6.77, the
    # largest radius, 1.6e-6 together; near u = 1, where radii are small, see radius_of. The CPU errs by 2.4e-7.
    assert (found - wanted).abs().max() <= 2e-6


def test_the_same_bits_at_each_run(gpu_backend):
    mean, log_var = parameters(3, 700_001)
    runs = [fastvae.kl_standard_normal(mean, log_var) for _ in range(3)]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


def test_nothing_but_results_is_allocated(gpu_backend):
    mean, log_var = (torch.randn(1024, 4096, device="cuda") for _ in range(2))
    fastvae.rsample_kl(mean, log_var, seed=torch.tensor(1, device="cuda"))
    seed = torch.tensor(1, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    fastvae.rsample_kl(mean, log_var, seed=seed)
    # z, the KL, and partial sums of no more than 1 % of it.
    assert torch.cuda.max_memory_allocated() - before <= mean.nbytes * 1.01 + 2**20
