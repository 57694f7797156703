"""Operators as torch sees them: contract, purity, what autograd saves, what the host is asked."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import examples
import fastvae
from fastvae.ops import CONTRACTS, OPERATORS

pytestmark = pytest.mark.usefixtures("backend")

CASES = [(name, i) for name, operator in OPERATORS.items() for i, _ in enumerate(examples.variants(operator))]


def test_every_operator_has_an_example():
    assert examples.EXAMPLES.keys() == OPERATORS.keys()


def test_every_backend_has_the_kernels_that_it_is_said_to_have(backend):
    device_type = torch.get_default_device().type
    missing = {n for n, c in CONTRACTS.items() if not fastvae.backends.has_kernel(backend, n, device_type)}
    said = examples.WITHOUT_KERNELS.get(backend, frozenset())
    assert missing == {c.name for name in said for c in examples.DECLARED[name].contracts}


def test_every_contract_is_registered_under_its_name():
    for name, contract in CONTRACTS.items():
        assert contract.call is getattr(torch.ops.fastvae, name).default
        assert [argument.name for argument in contract.call._schema.arguments] == list(contract.names)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request, backend):
    """(operator, arguments), made anew: on the device of the backend."""
    name, i = request.param
    examples.skip_without_kernel(name, backend)
    operator = OPERATORS[name]
    return operator, examples.arguments(operator, list(examples.variants(operator))[i])


def test_opcheck(case):
    operator, arguments = case
    torch.library.opcheck(operator.forward.call, arguments)
    for backward_arguments in examples.backward_arguments(operator, arguments):
        torch.library.opcheck(operator.backward.call, backward_arguments)


def test_opcheck_of_philox():
    torch.library.opcheck(CONTRACTS["philox"].call, (torch.randint(0, 2**32, (3, 4)), torch.randint(0, 2**32, (2,))))


def test_opcheck_of_normals():
    torch.library.opcheck(CONTRACTS["normals"].call, (torch.tensor(5), 7))


def test_inputs_are_not_written(case):
    operator, arguments = case
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    before = [(t.clone(), t._version) for t in tensors]
    operator.forward.call(*arguments)
    for tensor, (value, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)
        assert tensor._version == version


# --- what is saved, and what the host is asked ---


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


def call(name, shape):
    """The first result of the example of an operator, and the operands, which require gradients."""
    operator = OPERATORS[name]
    operands = [operand.requires_grad_() for operand in examples.operands(operator, shape)]
    return examples.several(examples.EXAMPLES[name].call(*operands))[0], operands


@pytest.fixture(params=OPERATORS)
def name(request, backend):
    examples.skip_without_kernel(request.param, backend)
    return request.param


def test_saved_tensors_are_the_inputs_and_the_seed(name):
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        _, operands = call(name, (64, 32))
    inputs = {o.data_ptr() for o in operands}
    extra = [t for t in saved if t.data_ptr() not in inputs]
    # Beside the inputs: a seed, or a scale given as a number.
    assert all(t.numel() == 1 for t in extra)
    assert len(saved) <= 5


def test_results_are_not_kept_alive(name):
    value, _ = call(name, (6, 5))
    total, alive = value.sum(), weakref.ref(value)
    del value
    gc.collect()
    assert alive() is None
    total.backward()


class NeverAsksTheHost(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_the_host_is_never_asked(name):
    with NeverAsksTheHost() as mode:
        call(name, (6, 5))[0].sum().backward()
    assert mode.calls > 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_and_refuses_nothing(dtype):
    layer = torch.nn.Linear(8, 10)
    x = torch.rand(6, 5)
    with torch.autocast("cpu", dtype=dtype):
        mean, log_var = layer(torch.randn(6, 8)).chunk(2, 1)
        z, kl = fastvae.rsample_kl(mean, log_var, seed=1)
        log_px = fastvae.bernoulli_log_prob(x, z) + fastvae.gaussian_log_prob(x, mean, torch.zeros(()))
        terms = fastvae.elbo(log_px, kl)
        weighted = fastvae.kl_standard_normal(mean, log_var, weight=torch.rand(5, requires_grad=True))
    assert (mean.dtype, z.dtype) == (dtype, dtype)
    assert {kl.dtype, log_px.dtype, terms.loss.dtype, weighted.dtype} == {torch.float32}
    outside = fastvae.rsample_kl(mean, log_var, seed=1)
    assert torch.equal(z, outside[0])
    assert torch.equal(kl, outside[1])
    (terms.loss + weighted.sum()).backward()
    assert layer.weight.grad.isfinite().all()


def test_activation_checkpointing_redraws_the_same_noise():
    mean, log_var = randn(6, 5).requires_grad_(), randn(6, 5).requires_grad_()

    def block(mean, log_var):
        z, kl = fastvae.rsample_kl(mean, log_var)
        return z.pow(3).sum() + kl.sum()

    torch.manual_seed(3)
    wanted = torch.autograd.grad(block(mean, log_var), (mean, log_var))
    torch.manual_seed(3)
    value = checkpoint(block, mean, log_var, use_reentrant=False)
    torch.manual_seed(99)
    gradients = torch.autograd.grad(value, (mean, log_var))
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted, strict=True))
