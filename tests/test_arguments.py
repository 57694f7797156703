"""Every error of the public functions, by its message, raised before any tensor is touched."""

from __future__ import annotations

import functools
import inspect
import math
import re

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import examples
import fastvae
from fastvae import backends
from fastvae.ops import OPERATORS
from fastvae.ops.noise import as_seed, draw_seed

M, L = torch.randn(4, 6), torch.randn(4, 6)
X, INT, META = torch.rand(4, 6), torch.ones(4, 6, dtype=torch.int64), torch.empty(4, 6, device="meta")
MASK, COMPLEX = torch.ones(4, 6, dtype=torch.bool), torch.ones(4, 6, dtype=torch.complex64)
FLOAT8 = torch.ones(4, 6).to(torch.float8_e4m3fn)
ROW, FIVE, THREE_ROWS, SCALAR = torch.randn(4), torch.zeros(5), torch.zeros(3, 6), torch.ones(())
INT_SCALAR, META_ROW, META_SCALAR = torch.ones((), dtype=torch.int64), META[:, 0], META[0, 0]

rsample, rsample_kl = fastvae.rsample, fastvae.rsample_kl
kl_standard_normal, kl_normal = fastvae.kl_standard_normal, fastvae.kl_normal
bernoulli, gaussian, elbo = fastvae.bernoulli_log_prob, fastvae.gaussian_log_prob, fastvae.elbo

FLOATING = "must be torch.bfloat16 or torch.float16 or torch.float32 or torch.float64"

# call, error, message
WRONG_OPERANDS = [
    # no tensor
    (lambda: rsample(1.0, L), TypeError, "mean must be a tensor, got float"),
    (lambda: rsample(M, None), TypeError, "log_var must be a tensor, got NoneType"),
    (lambda: rsample_kl(M, [0.0]), TypeError, "log_var must be a tensor, got list"),
    (lambda: kl_standard_normal(np.zeros(3), L), TypeError, "mean must be a tensor, got ndarray"),
    (lambda: kl_normal(M, L, 0.0, L), TypeError, "mean_p must be a tensor, got float"),
    (lambda: kl_normal(M, L, M, 0.0), TypeError, "log_var_p must be a tensor, got float"),
    (lambda: bernoulli(0.5, L), TypeError, "x must be a tensor, got float"),
    (lambda: bernoulli(X, 0.5), TypeError, "logits must be a tensor, got float"),
    (lambda: gaussian(X, 0.0, 0.0), TypeError, "mean must be a tensor, got float"),
    (lambda: gaussian(X, M, None), TypeError, "log_var must be a tensor, got NoneType"),
    (lambda: elbo(1.0, ROW), TypeError, "log_px must be a tensor, got float"),
    (lambda: elbo(ROW, 1.0), TypeError, "kl must be a tensor, got float"),
    # dtypes
    (lambda: rsample(INT, L), TypeError, f"mean {FLOATING}, got torch.int64"),
    (lambda: rsample(M, INT), TypeError, f"log_var {FLOATING}, got torch.int64"),
    (lambda: rsample(COMPLEX, COMPLEX), TypeError, f"mean {FLOATING}, got torch.complex64"),
    (lambda: rsample_kl(M, FLOAT8), TypeError, f"log_var {FLOATING}, got torch.float8_e4m3fn"),
    (lambda: kl_standard_normal(MASK, L), TypeError, f"mean {FLOATING}, got torch.bool"),
    (lambda: kl_standard_normal(INT, INT), TypeError, f"mean {FLOATING}, got torch.int64"),
    (lambda: kl_normal(M, L, M, INT), TypeError, f"log_var_p {FLOATING}, got torch.int64"),
    (lambda: bernoulli(INT, L), TypeError, "x must be torch.bfloat16 or torch.bool or torch.float16"),
    (lambda: bernoulli(COMPLEX, L), TypeError, "torch.uint8, got torch.complex64"),
    (lambda: bernoulli(X, MASK), TypeError, f"logits {FLOATING}, got torch.bool"),
    (lambda: gaussian(X, INT, 0.0), TypeError, f"mean {FLOATING}, got torch.int64"),
    (lambda: gaussian(X, M, INT), TypeError, f"log_var {FLOATING}, got torch.int64"),
    (lambda: elbo(INT, ROW), TypeError, f"log_px {FLOATING}, got torch.int64"),
    # shapes
    (
        lambda: rsample(M, FIVE),
        ValueError,
        "log_var does not broadcast with the other operands: mean [4, 6], log_var [5]",
    ),
    (lambda: rsample_kl(M, THREE_ROWS), ValueError, "mean [4, 6], log_var [3, 6]"),
    (lambda: kl_standard_normal(M, FIVE), ValueError, "mean [4, 6], log_var [5]"),
    (lambda: kl_normal(M, L, FIVE, L), ValueError, "mean_p does not broadcast with the other operands"),
    (lambda: bernoulli(X, FIVE), ValueError, "x [4, 6], logits [5]"),
    (lambda: gaussian(X, M, FIVE), ValueError, "x [4, 6], mean [4, 6], log_var [5]"),
    (lambda: gaussian(X, FIVE, "optimal"), ValueError, "x [4, 6], mean [5]"),
    (lambda: elbo(ROW, FIVE), ValueError, "log_px [4], kl [5]"),
    # devices
    (lambda: rsample(M, META), ValueError, "log_var is on meta, mean on cpu: one device is wanted"),
    (lambda: rsample_kl(META, L), ValueError, "log_var is on cpu, mean on meta"),
    (lambda: kl_normal(M, L, M, META), ValueError, "log_var_p is on meta, mean_q on cpu"),
    (lambda: bernoulli(X, META), ValueError, "logits is on meta, x on cpu"),
    (lambda: gaussian(X, M, META), ValueError, "log_var is on meta, x on cpu"),
    (lambda: elbo(ROW, META_ROW), ValueError, "kl is on meta, log_px on cpu"),
]


def having(keyword):
    """The public functions with this keyword, of operands that are right."""
    functions = {name: examples.public(name) for name in OPERATORS}
    return [
        functools.partial(function, *examples.operands(OPERATORS[name], (4, 6)))
        for name, function in functions.items()
        if keyword in inspect.signature(function).parameters
    ]


SCALE_ERRORS = [
    (
        {"scale_as": "stddev"},
        ValueError,
        "scale_as must be one of 'log_var', 'log_std', 'var', 'std', 'softplus', got 'stddev'",
    ),
    ({"scale_as": None}, ValueError, "got None"),
    ({"scale_eps": -1e-4, "scale_as": "softplus"}, ValueError, "scale_eps must be at least 0, got -0.0001"),
    ({"scale_eps": 1e-4}, ValueError, "scale_eps is read by scale_as='softplus' only, got 0.0001 with 'log_var'"),
    ({"scale_eps": "1"}, TypeError, "scale_eps must be a number, got str"),
    ({"clamp": (2, -2)}, ValueError, "clamp must be (lo, hi) with lo <= hi, got (2, -2)"),
    ({"clamp": (math.nan, 1)}, ValueError, "clamp must be (lo, hi) with lo <= hi, got (nan, 1)"),
    ({"clamp": 3.0}, TypeError, "clamp must be a pair (lo, hi) or None, got 3.0"),
    ({"clamp": (1, 2, 3)}, TypeError, "clamp must be a pair (lo, hi) or None, got (1, 2, 3)"),
    ({"clamp": (None, 2)}, TypeError, "clamp's lo must be a number, got NoneType"),
]
EVENT_ERRORS = [
    ({"event_ndim": 3}, ValueError, "event_ndim must be in [0, 2] for shape [4, 6], got 3"),
    ({"event_ndim": -1}, ValueError, "event_ndim must be in [0, 2] for shape [4, 6], got -1"),
    ({"event_ndim": 1.0}, TypeError, "event_ndim must be an int or None, got float"),
    ({"event_ndim": True}, TypeError, "event_ndim must be an int or None, got bool"),
    (
        {"mask": torch.ones(5, dtype=torch.bool)},
        ValueError,
        "mask [5] does not broadcast to the elements' shape [4, 6]",
    ),
    ({"weight": torch.ones(2, 4, 6)}, ValueError, "weight [2, 4, 6] does not broadcast to the elements' shape [4, 6]"),
    ({"mask": X}, TypeError, "mask must be torch.bool, got torch.float32"),
    ({"mask": True}, TypeError, "mask must be a tensor, got bool"),
    ({"weight": INT}, TypeError, f"weight {FLOATING}, got torch.int64"),
    ({"weight": 0.5}, TypeError, "weight must be a tensor, got float"),
    ({"weight": META}, ValueError, "weight is on meta, the operands on cpu"),
    ({"mask": META.bool()}, ValueError, "mask is on meta, the operands on cpu"),
]
FREE_BITS_ERRORS = [
    ({"free_bits": -0.1}, ValueError, "free_bits must be at least 0 nats, got -0.1"),
    ({"free_bits": math.nan}, ValueError, "free_bits must be at least 0 nats, got nan"),
    ({"free_bits": "1"}, TypeError, "free_bits must be a number, got str"),
    (
        {"free_bits_over": "pixel"},
        ValueError,
        "free_bits_over must be one of 'batch', 'element', 'latent', 'sample', got 'pixel'",
    ),
]
NOISE_ERRORS = [
    ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
    ({"num_samples": -3}, ValueError, "num_samples must be at least 1, got -3"),
    ({"num_samples": 2.0}, TypeError, "num_samples must be an int or None, got float"),
    ({"num_samples": True}, TypeError, "num_samples must be an int or None, got bool"),
    ({"seed": 1, "eps": X}, ValueError, "noise comes from one of seed, generator and eps, got seed and eps"),
    ({"seed": 1, "generator": torch.Generator()}, ValueError, "got seed and generator"),
    ({"eps": X, "generator": torch.Generator()}, ValueError, "got generator and eps"),
    ({"generator": 7}, TypeError, "generator must be a torch.Generator, got int"),
    ({"seed": 1.0}, TypeError, "seed must be an int or an int64 tensor, got float"),
    ({"seed": torch.tensor(1.0)}, TypeError, "seed must be an int or an int64 tensor, got a tensor of torch.float32"),
    ({"seed": torch.tensor(1, dtype=torch.int32)}, TypeError, "got a tensor of torch.int32"),
    ({"seed": torch.tensor([1, 2])}, ValueError, "seed must hold one element, got shape [2]"),
    ({"eps": torch.zeros(6)}, ValueError, "eps must be shaped like z, [4, 6], got [6]"),
    ({"eps": X, "num_samples": 2}, ValueError, "eps must be shaped like z, [2, 4, 6], got [4, 6]"),
    ({"eps": INT}, TypeError, f"eps {FLOATING}, got torch.int64"),
    ({"eps": 0.0}, TypeError, "eps must be a tensor, got float"),
    ({"eps": META}, ValueError, "eps is on meta, mean on cpu"),
]
OTHER_ERRORS = [
    (lambda: gaussian(X, M, "optimum"), ValueError, "log_var must be a tensor, a float or 'optimal', got 'optimum'"),
    (lambda: gaussian(X, M, "optimal", scale_as="sd"), ValueError, "scale_as must be one of"),
    (
        lambda: fastvae.laplace_log_prob(X, M, 1.0, scale_as="std"),
        ValueError,
        "scale_as must be one of 'scale', 'log_scale', got 'std'",
    ),
    (lambda: gaussian(X, M, "optimal", event_ndim=4), ValueError, "event_ndim must be in [0, 2]"),
    (lambda: gaussian(X, M, 0.5, event_ndim=4), ValueError, "event_ndim must be in [0, 2]"),
    (lambda: gaussian(X, M, 0.5, mask=X), TypeError, "mask must be torch.bool"),
    (lambda: gaussian(X, M, L, x_scale="1"), TypeError, "x_scale must be a number, got str"),
    (lambda: bernoulli(X, L, x_scale=SCALAR), TypeError, "x_scale must be a number, got Tensor"),
    (lambda: rsample_kl(M, L, mask=MASK, weight=X, num_samples=0), ValueError, "num_samples must be at least 1"),
    (lambda: rsample_kl(M, L, mask=MASK, weight=X, seed="1"), TypeError, "seed must be an int"),
    (lambda: kl_normal(M, L, M, L, mask=MASK, weight=X, free_bits=-1.0), ValueError, "free_bits must be at least 0"),
    (lambda: kl_normal(M, L, M, L, mask=MASK, weight=INT), TypeError, "weight must be"),
    (lambda: elbo(ROW, ROW, reduction="avg"), ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
    (lambda: elbo(ROW, ROW, "1"), TypeError, "beta must be a number, got str"),
    (lambda: elbo(ROW, ROW, ROW), ValueError, "beta must be a float or a 0-d tensor, got shape [4]"),
    (lambda: elbo(ROW, ROW, INT_SCALAR), TypeError, f"beta {FLOATING}, got torch.int64"),
    (lambda: elbo(ROW, ROW, META_SCALAR), ValueError, "beta is on meta, log_px on cpu"),
]


def with_keywords(calls, errors):
    # Defaults bind each call and keywords: the list is made before any test runs.
    return [
        (lambda call=call, keywords=keywords: call(**keywords), error, message)
        for call in calls
        for keywords, error, message in errors
    ]


CASES = [
    *WRONG_OPERANDS,
    *with_keywords(having("scale_eps"), SCALE_ERRORS),
    *with_keywords(having("event_ndim"), EVENT_ERRORS),
    *with_keywords(having("free_bits"), FREE_BITS_ERRORS),
    *with_keywords(having("seed"), NOISE_ERRORS),
    *OTHER_ERRORS,
]


class NothingIsComputed(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} was called before the arguments were refused")


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[message[:60] for _, _, message in CASES])
def test_what_is_wrong_is_named_and_nothing_is_computed(call, error, message):
    with NothingIsComputed(), pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert type(caught.value) is error


def test_the_guard_sees_work():
    with pytest.raises(AssertionError, match="was called"), NothingIsComputed():
        rsample(M, L)


@pytest.mark.parametrize("value", [math.nan, 2.0, -1.0])
def test_what_only_the_data_can_tell_is_not_checked(value):
    bernoulli(torch.full((4, 6), value), L)
    assert kl_standard_normal(M, L * value).shape == (4,)


def test_names_are_those_of_the_package():
    for name in fastvae.__all__:
        assert hasattr(fastvae, name)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", fastvae.__version__)


def test_an_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match="backend 'cudnn' is unknown; there are"), backends.use("cudnn"):
        pass


@pytest.mark.usefixtures("backend")
def test_usual_spellings_are_accepted():
    torch.testing.assert_close(rsample(M, L, seed=1, clamp=[-1, 1]), rsample(M, L, seed=1, clamp=(-1.0, 1.0)))
    parameter = torch.nn.Parameter(M)
    assert kl_standard_normal(parameter, L).requires_grad
    assert elbo(ROW, ROW, 2).loss == elbo(ROW, ROW, 2.0).loss
    assert elbo(ROW.requires_grad_(False), torch.zeros(())).kl == 0


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", OPERATORS)
def test_layouts_that_are_not_strided_are_refused(name):
    operands = examples.operands(OPERATORS[name], (4, 6))
    parameters = list(inspect.signature(examples.public(name)).parameters)
    for i, operand in enumerate(operands):
        others = [operand.to_sparse()]
        if operand.dim() and operand.device.type == "cpu":
            others.append(operand.to_mkldnn())
        for other in others:
            given = [*operands[:i], other, *operands[i + 1 :]]
            with pytest.raises(TypeError, match=f"{parameters[i]} must be a dense tensor, got the layout torch"):
                examples.public(name)(*given)


@pytest.mark.filterwarnings("ignore:.*quantize.*deprecated:UserWarning")
def test_quantised_tensors_are_refused():
    quantised = torch.quantize_per_tensor(M, 0.1, 0, torch.quint8)
    with pytest.raises(TypeError, match=f"mean {FLOATING}, got torch.quint8"):
        rsample(quantised, L)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("number", [np.float32, np.float64, np.float16, int])
def test_numpy_scalars_are_numbers(number):
    one, two = number(1), number(2)
    for keywords in (
        {"clamp": (-one, two)},
        {"scale_as": "softplus", "scale_eps": one},
        {"free_bits": one},
        {"event_ndim": np.int64(1)},
    ):
        plain = {k: tuple(map(float, v)) if isinstance(v, tuple) else v for k, v in keywords.items()}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in plain.items()}
        assert torch.equal(kl_standard_normal(M, L, **keywords), kl_standard_normal(M, L, **plain))
    assert rsample(M, L, num_samples=np.int64(3)).shape == (3, 4, 6)
    assert torch.equal(elbo(ROW, ROW, two).loss, elbo(ROW, ROW, 2.0).loss)
    assert torch.equal(bernoulli(X, L, x_scale=one), bernoulli(X, L))
    assert torch.equal(gaussian(X, M, two), gaussian(X, M, 2.0))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", OPERATORS)
def test_more_dimensions_than_are_served_are_named(name, backend):
    examples.skip_without_kernel(name, backend)
    function = examples.public(name)
    function(*examples.operands(OPERATORS[name], (1, 2, 1, 2, 1, 2, 1, 2)))
    with pytest.raises(
        ValueError, match=re.escape("at most 8 dimensions are served, got shape [1, 2, 1, 2, 1, 2, 1, 2, 1]")
    ):
        function(*examples.operands(OPERATORS[name], (1, 2, 1, 2, 1, 2, 1, 2, 1)))


def test_samples_are_a_dimension_too():
    eight = torch.zeros(1, 2, 1, 2, 1, 2, 1, 2)
    with pytest.raises(ValueError, match="the axis of the samples among them"):
        rsample(eight, eight, num_samples=2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_reduced_likelihood_is_not_added_to_an_unreduced_kl(reduction):
    with pytest.raises(ValueError, match=re.escape("log_px is reduced to one number and kl is not, [4]")):
        elbo(ROW.sum(), ROW, reduction=reduction)


@pytest.fixture
def on_gpu(monkeypatch):
    """A CUDA tensor that holds nothing, on any machine."""
    with FakeTensorMode():
        tensor = torch.empty(4, 6, device="cuda")
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        yield tensor


@pytest.mark.parametrize("function", [fastvae.rsample, fastvae.rsample_kl])
@pytest.mark.parametrize(
    ("name", "make", "wanted"),
    [
        (
            "generator",
            lambda: torch.Generator("cpu"),
            "on cuda:0 and registered with the graph by register_generator_state",
        ),
        ("seed", lambda: torch.tensor(1, device="cpu"), "on cuda:0"),
    ],
    ids=["generator", "seed"],
)
def test_noise_of_the_host_is_refused_while_a_graph_is_captured(monkeypatch, on_gpu, function, name, make, wanted):
    given = {name: make()}
    function(on_gpu, on_gpu, **given)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    function(on_gpu, on_gpu)
    function(on_gpu, on_gpu, seed=1)
    with pytest.raises(RuntimeError) as caught:
        function(on_gpu, on_gpu, **given)
    message = f"{name} is on cpu, mean on cuda:0: while a CUDA graph is captured, {name} must be {wanted}"
    assert str(caught.value) == message


@pytest.mark.parametrize("noise", ["fastvae", "torch"])
def test_a_sample_from_a_generator_of_the_host_is_refused_while_a_graph_is_captured(monkeypatch, on_gpu, noise):
    posterior = fastvae.distributions.DiagonalGaussian(on_gpu, noise=noise)
    posterior.sample(torch.Generator("cpu"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="generator is on cpu, mean on cuda:0: while a CUDA graph is captured"):
        posterior.sample(torch.Generator("cpu"))


@pytest.mark.parametrize(
    "seed",
    [
        lambda like: as_seed(torch.tensor(1, device="cpu"), like.device),
        lambda like: draw_seed(like, torch.Generator("cpu")),
    ],
    ids=["given", "drawn"],
)
def test_a_seed_of_the_host_reaches_a_gpu_without_waiting(monkeypatch, seed):
    with FakeTensorMode():
        like = torch.empty(4, 6, device="cuda")
    copies = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: copies.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **given: copies.append((*args, given)) or tensor)
    seed(like)
    assert copies == ["pinned", (like.device, {"non_blocking": True})]
