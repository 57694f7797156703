"""The registry: what is demanded serves, or it is an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import fastvae
from fastvae import backends
from fastvae.backends import native, triton

needs_native = pytest.mark.skipif(native.why_not("cpu") is not None, reason=str(native.why_not("cpu")))


@pytest.fixture
def calls(monkeypatch):
    """Names of the operators that plain torch computed."""
    made = []

    def functions(contracts):
        return {name: lambda *args, n=name, c=c: made.append(n) or c.formula(*args) for name, c in contracts.items()}

    plain = backends.BACKENDS["reference"]
    monkeypatch.setitem(backends.BACKENDS, "reference", plain._replace(functions=functions))
    return made


def kl():
    return fastvae.kl_standard_normal(torch.ones(2, 3), torch.zeros(2, 3))


def test_reference_serves_where_it_is_demanded_and_only_there(calls):
    with backends.use("reference"):
        assert backends.serving("cpu") == "reference"
        kl()
        assert calls == ["kl_standard_normal"]
    assert backends.serving("cpu") == ("native" if native.why_not("cpu") is None else "reference")


@needs_native
def test_demands_nest(calls):
    with backends.use("reference"):
        with backends.use("native"):
            assert backends.serving("cpu") == "native"
            kl()
            assert calls == []
        kl()
        assert calls == ["kl_standard_normal"]
    kl()
    assert calls == ["kl_standard_normal"]


def test_unknown_backend():
    with (
        pytest.raises(ValueError, match="backend 'abacus' is unknown; there are 'native', 'triton', 'reference'"),
        backends.use("abacus"),
    ):
        pass


def test_unmet_demand_says_why(monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "native", backends.Backend(lambda device_type: "not built here", None))
    with pytest.raises(RuntimeError, match="backend 'native' cannot serve: not built here"), backends.use("native"):
        pass


def test_without_triton_a_demand_says_what_to_install(monkeypatch):
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install triton"), backends.use("triton"):
        pass


def test_a_demand_is_refused_where_the_device_is_another(monkeypatch):
    elsewhere = backends.Backend(lambda device: None if device == "cuda" else "a GPU's alone", lambda contracts: {})
    monkeypatch.setitem(backends.BACKENDS, "elsewhere", elsewhere)
    with backends.use("elsewhere"), pytest.raises(RuntimeError, match="cannot serve 'cpu' tensors: a GPU's alone"):
        kl()


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


KL = "import gc, torch, fastvae; gc.collect(); print(fastvae.kl_standard_normal(torch.ones(1, 1), torch.zeros(1, 1)))"


def test_environment_demands():
    serving = "from fastvae import backends; print(backends.serving('cpu'))"
    assert python(serving, FASTVAE_BACKEND="reference").stdout.strip() == "reference"
    done = python(serving, FASTVAE_BACKEND="abacus")
    assert done.returncode != 0
    assert "backend 'abacus' is unknown" in done.stderr


def test_reference_announces_itself_once_where_nothing_faster_serves():
    missing = "from pathlib import Path; Path.is_file = lambda self: False\n"
    done = python(missing + KL.replace("; print", "\nfor _ in range(3): print"))
    assert done.stdout.count("0.5000") == 3
    assert done.stderr.count("plain torch computes on 'cpu' tensors") == 1
    assert python(KL).stderr.count("plain torch computes") == (0 if native.why_not("cpu") is None else 1)


def test_import_needs_no_compiler_and_no_gpu():
    heavy = ("triton", "torch._inductor", "sklearn", "matplotlib")
    code = f"import sys, fastvae; print([m for m in {heavy} if m in sys.modules])"
    done = python(code, CUDA_VISIBLE_DEVICES="", PATH="")
    assert done.stdout.strip() == "[]", done.stderr


IMPORT_WITH_CUDA = """
from pathlib import Path
import torch

torch.version.cuda = "13.0"
is_file, load, loaded = Path.is_file, torch.ops.load_library, []
Path.is_file = lambda self: self.name == "_cuda.so" or is_file(self)
torch.ops.load_library = lambda path: loaded.append(Path(path).name) or ("_cuda" in path) or load(path)
import fastvae

print([name for name in loaded if name != "_cpu.so"], torch.cuda.is_initialized())
"""


@pytest.mark.parametrize("demanded", ["", "native", "reference"])
def test_import_loads_no_library_of_a_gpu(demanded):
    done = python(IMPORT_WITH_CUDA, FASTVAE_BACKEND=demanded)
    assert done.stdout.strip() == "[] False", done.stderr


# The CPU's library in a GPU's place: it was not there at import, and is loaded at the first tensor. Asked whether it
# serves it says `reason`; Triton comes next, and says what it computes.
AT_FIRST_TENSOR = """
from pathlib import Path

is_file, Path.is_file = Path.is_file, lambda self: False
import torch
import fastvae
from fastvae import backends
from fastvae.backends import native

Path.is_file = is_file
native.load.cache_clear()
native.why_absent.cache_clear()
native.CHECKS["cpu"] = lambda told: {reason!r}
backends._unsettled.add("cpu")
made = []

def functions(contracts):
    return {{name: lambda *args, n=name, c=c: made.append(n) or c.formula(*args) for name, c in contracts.items()}}

backends.BACKENDS["triton"] = backends.Backend(lambda device_type: None, functions)
backends.settle_compiled()
mean = torch.ones(2, 3, requires_grad=True)

def kl(mean=mean):
    return fastvae.kl_standard_normal(mean, torch.zeros(2, 3))

def refused():
    try:
        kl()
    except RuntimeError as error:
        return str(error)
"""


def at_first_tensor(code, reason=None):
    done = python(AT_FIRST_TENSOR.format(reason=reason) + code, FASTVAE_BACKEND="")
    assert done.returncode == 0, done.stderr
    assert "plain torch computes" not in done.stderr
    return done.stdout.splitlines()


CALLED_TWICE = """
for _ in range(2):
    kl().sum().backward()
print(kl().tolist(), mean.grad.tolist() == [[2.0] * 3] * 2, made, backends.serving("cpu"))
"""
ONCE = ["kl_standard_normal", "kl_standard_normal_backward"]


@needs_native
def test_a_library_is_loaded_at_the_first_tensor():
    assert at_first_tensor(CALLED_TWICE) == ["[1.5, 1.5] True [] native"]


@needs_native
def test_where_a_library_cannot_serve_the_next_backend_does():
    made = [*ONCE, *ONCE, "kl_standard_normal"]
    assert at_first_tensor(CALLED_TWICE, "no code for it") == [f"[1.5, 1.5] True {made} triton"]


DEMANDED = """
with backends.use("native"):
    print(refused())
    print(refused())
print(made)
kl()
print(made)
print(backends.available()["native"])
try:
    with backends.use("native"):
        pass
except RuntimeError as error:
    print(error)
"""


@needs_native
def test_a_library_that_cannot_serve_is_not_replaced_where_it_is_demanded():
    *refusals, before, after, available, again = at_first_tensor(DEMANDED, "no code for it")
    assert refusals == ["backend 'native' is demanded and cannot serve 'cpu' tensors: no code for it"] * 2
    assert (before, after) == ("[]", "['kl_standard_normal']")
    assert available.startswith("no code for it; ")
    assert again == f"backend 'native' cannot serve: {available}"


@needs_native
def test_a_demand_that_turns_out_unmet_stays_one():
    code = """
with backends.use("native"):
    with backends.use("reference"):
        kl()
        print(native.why_not("cpu"))
    print(refused())
print(made)
"""
    message = "backend 'native' is demanded and cannot serve 'cpu' tensors: no code for it"
    assert at_first_tensor(code, "no code for it") == ["no code for it", message, "[]"]


@needs_native
@pytest.mark.parametrize("reason", [None, "no code for it"])
def test_a_library_that_is_loaded_meanwhile_does_not_come_before_a_demand(reason):
    code = """
with backends.use("triton"):
    print(native.why_not("cpu"))
    kl()
    print(made)
kl()
print(made)
"""
    by_triton = ["kl_standard_normal"] * (1 if reason is None else 2)
    assert at_first_tensor(code, reason) == [str(reason), "['kl_standard_normal']", str(by_triton)]


@needs_native
@pytest.mark.parametrize(("reason", "who"), [(None, "native"), ("no code for it", "triton")])
def test_a_graph_that_meets_the_first_tensor_is_made_once(reason, who):
    code = """
from torch._dynamo.testing import CompileCounterWithBackend
counter = CompileCounterWithBackend("aot_eager")
compiled = torch.compile(lambda mean: fastvae.rsample(mean, mean), fullgraph=True, backend=counter)
for _ in range(3):
    compiled(mean)
print(backends.serving("cpu"), counter.frame_count)
"""
    assert at_first_tensor(code, reason) == [f"{who} 1"]


@needs_native
@pytest.mark.parametrize(("reason", "choice"), [(None, "kernel"), ("no code for it", "formula")])
def test_torch_compile_is_given_no_kernel_of_a_library_that_cannot_serve(reason, choice):
    code = """
del backends.BACKENDS["triton"]
print(backends._choose(fastvae.ops.OPERATORS["rsample"], 2**20, "cpu"))
"""
    assert at_first_tensor(code, reason) == [choice]


FURTHER = """
import torch, warnings
from torch.distributions import constraints
import fastvae
from fastvae import backends, ops

HALF = ops.Likelihood(
    "half_log_prob",
    "Tensor x, Tensor mean",
    "float x_scale",
    lambda x, mean, *, x_scale: -(x * x_scale - mean) ** 2 / 2,
    lambda grad, x, mean, *, x_scale: (-grad * (x * x_scale - mean) * x_scale, grad * (x * x_scale - mean)),
    constraints.real,
)
with backends.use("reference"):
    backends.register(ops.CONTRACTS)
    assert backends.serving("cpu") == "reference"
mean = torch.zeros(2, 3, requires_grad=True)
for _ in range(2):
    loss = -HALF.total(0.5, torch.ones(2, 3), mean, None, 2, 1.0)
    loss.backward()
compiled = torch.compile(HALF.apply, fullgraph=True, backend="aot_eager")
print(loss.item(), mean.grad[0, 0].item(), compiled(mean, mean, None, 1, 1.0).tolist())
try:
    with backends.use("native"):
        HALF.apply(mean, mean, None, 1, 1.0)
except (NotImplementedError, RuntimeError) as error:
    print(error)
"""


def test_a_formula_and_a_declaration_are_a_working_operator():
    done = python(FURTHER)
    loss, *rest = done.stdout.splitlines()
    assert loss == "1.5 -1.0 [0.0, 0.0]", done.stderr
    if native.why_not("cpu") is None:
        assert rest == ["backend 'native' is demanded and has no kernel for half_log_prob"]
        assert done.stderr.count("plain torch computes half_log_prob on 'cpu' tensors: native has no kernel") == 1
