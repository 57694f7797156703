"""Models: what they are made of, what they give, and that nothing of it is copied or cast on the way."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import fastvae
from fastvae.models import VAE, Observation, Settings, build, conv, schedules

GAUSSIAN = {"likelihood": "gaussian"}
SMALL = {"image_shape": (1, 8, 8), "latents": 3, "hidden": (16,), "width": 8}
KINDS = {
    "mlp": {},
    "mlp of two layers": {"hidden": (16, 12)},
    "conv": {"model": "conv", "image_shape": (3, 16, 32)},
    "conv of digits": {"model": "conv"},
    "conv of 28 pixels, two blocks": {"model": "conv", "image_shape": (1, 28, 28), "depth": 2},
    "linear": {"model": "linear", **GAUSSIAN, "variance": "per-pixel"},
    "fixed": {**GAUSSIAN, "log_var": -1.0},
    "shared": {**GAUSSIAN, "variance": "shared"},
    "per-pixel": {**GAUSSIAN, "variance": "per-pixel"},
    "conv per-pixel": {"model": "conv", **GAUSSIAN, "variance": "per-pixel"},
    "optimal": {**GAUSSIAN, "variance": "optimal"},
}
OBJECTIVES = [
    {"objective": objective, "estimator": estimator}
    for objective in ("elbo", "iwae")
    for estimator in ("pathwise", "stl", "dreg")
]


@pytest.fixture(params=KINDS)
def settings(request):
    return Settings(**{**SMALL, **KINDS[request.param]})


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests():
    torch.compiler.reset()


def uint8_images(settings, count=5):
    return torch.randint(0, 256, (count, *settings.image_shape), dtype=torch.uint8)


def small(**further):
    return build(Settings(**{**SMALL, **further}))


def test_settings_are_json(settings):
    assert Settings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"model": "vgg"}, ValueError, "model must be one of 'mlp', 'conv', 'linear', got 'vgg'"),
        ({"likelihood": "cauchy"}, ValueError, "likelihood must be one of .*'bernoulli', .*got 'cauchy'"),
        ({"variance": "none"}, ValueError, "variance must be one of 'fixed', 'shared', 'per-pixel', 'optimal'"),
        ({"variance": "shared"}, ValueError, "variance 'shared' is a Gaussian's, likelihood is 'bernoulli'"),
        ({"model": "linear"}, ValueError, "likelihood must be 'gaussian', got 'bernoulli'"),
        ({"latents": 0}, ValueError, "latents must be at least 1, got 0"),
        ({"hidden": (16, 0)}, ValueError, "hidden must be at least 1, got 0"),
        ({"hidden": 16}, TypeError, "hidden must be a sequence of ints, got int"),
        ({"width": 1.5}, TypeError, "width must be an int, got float"),
        ({"image_shape": (8, 8)}, ValueError, r"image_shape must be \(channels, height, width\), got \(8, 8\)"),
        ({"log_var": math.nan}, ValueError, "log_var must be finite"),
        ({"log_var": "0"}, TypeError, "log_var must be a number, got str"),
    ],
)
def test_wrong_settings_are_named(keywords, error, message):
    with pytest.raises(error, match=message):
        Settings(**keywords)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="settings of a model have no 'depht'"):
        Settings.from_dict({"depht": 3})


def test_every_model_trains_samples_and_reconstructs(settings):
    model, x = build(settings), uint8_images(settings)
    for keywords in ({}, {"num_samples": 3}, {"num_samples": 3, "objective": "iwae"}):
        model.zero_grad()
        terms = model(x, **keywords)
        assert isinstance(terms, fastvae.ElboTerms)
        assert all(term.shape == () for term in terms)
        terms.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for images in (model.sample(4, seed=0), model.reconstruct(x[:4]), model.reconstruct(x[:4].flatten(1))):
        assert images.shape == (4, *settings.image_shape)
        assert ((images >= 0) & (images <= 1)).all()
    assert torch.equal(model.sample(4, seed=0), model.sample(4, seed=0))
    assert not torch.equal(model.sample(4, seed=0), model.sample(4, generator=torch.Generator().manual_seed(0)))


def test_the_forward_is_the_elbo_written_out(settings):
    model, x = build(settings).eval(), uint8_images(settings)
    mean, log_var = model.encode(x)
    z, kl = fastvae.rsample_kl(mean, log_var, seed=7, num_samples=4)
    log_px = model.log_prob(x, z)
    assert log_px.shape == (4, 5)
    terms = model(x, num_samples=4, seed=7, beta=0.5)
    torch.testing.assert_close(terms.loss, 0.5 * kl.mean() - log_px.mean())
    torch.testing.assert_close(terms.elbo, log_px.mean() - kl.mean())
    torch.testing.assert_close(terms.log_likelihood, log_px.mean())
    torch.testing.assert_close(terms.kl, kl.mean())


def test_heads_are_views(settings):
    """The operators read the halves of what a network gives in place."""
    model, x, given = build(settings), uint8_images(settings), {}
    for name in ("encoder", "decoder"):
        getattr(model, name).register_forward_hook(lambda _, __, out, name=name: given.__setitem__(name, out))
    mean, log_var = model.encode(x)
    parameters = model.decode(mean.expand(2, *mean.shape))
    assert {t.untyped_storage().data_ptr() for t in (mean, log_var)} == {given["encoder"].untyped_storage().data_ptr()}
    varying = parameters[: model.observation.num_outputs]
    assert {t.untyped_storage().data_ptr() for t in varying} == {given["decoder"].untyped_storage().data_ptr()}
    assert all(t.shape == (2, 5, *settings.image_shape) for t in varying)
    # One parameter after the other, as a layer with so many outputs a pixel has them.
    packed = given["decoder"].reshape(2, 5, len(varying), *settings.image_shape)
    assert torch.equal(torch.stack(varying, 2), packed)


def test_uint8_reaches_the_likelihood_as_it_is(monkeypatch):
    seen, log_prob = [], Observation.log_prob
    monkeypatch.setattr(
        Observation, "log_prob", lambda self, x, *a: (seen.append((x.dtype, x.data_ptr())), log_prob(self, x, *a))[1]
    )
    model, x = small(), torch.randint(0, 256, (5, 64), dtype=torch.uint8)
    bytes_, floats = model(x, seed=1), model(x / 255, seed=1)
    assert seen[0] == (torch.uint8, x.data_ptr())
    for a, b in zip(bytes_, floats, strict=True):
        torch.testing.assert_close(a, b)
    ones = torch.rand(5, 64) > 0.5
    torch.testing.assert_close(model(ones, seed=1).loss, model(ones.float(), seed=1).loss)


def test_images_of_another_size_are_refused():
    for wrong in (torch.zeros(5, 63), torch.zeros(64), torch.zeros(5, 2, 8, 8)):
        with pytest.raises(ValueError, match=r"x must be \[batch, \*\[1, 8, 8\]\] or flat images, got"):
            small()(wrong)


@pytest.mark.parametrize(
    ("side", "halvings", "last"), [(256, 6, 4), (64, 4, 4), (32, 3, 4), (28, 2, 7), (100, 2, 25), (8, 1, 4), (7, 0, 7)]
)
def test_strides_go_down_to_a_few_pixels(side, halvings, last):
    settings = Settings(model="conv", image_shape=(3, side, side), latents=2, width=4)
    channels, height, width = conv.stages(settings)
    assert (len(channels) - 1, height, width) == (halvings, last, last)
    assert channels == tuple(min(4 * 2**i, 32) for i in range(halvings + 1))
    model = build(settings)
    assert model.reconstruct(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape == (1, 3, side, side)


class Mixed(VAE):
    """A user's: a network of its own, another prior over widths."""

    def __init__(self):
        super().__init__(nn.Linear(64, 6), nn.Linear(3, 64), Observation("bernoulli", (1, 8, 8)), latents=3)

    def encode(self, x):
        return self.encoder(x.float().flatten(1)).chunk(2, -1)


def test_a_subclass_trains():
    torch.manual_seed(1)
    model, x = Mixed(), (torch.rand(32, 64) > 0.8).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model(x).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 5


def test_a_state_dict_is_all_of_a_model(settings):
    model, x = build(settings), uint8_images(settings)
    model(x)
    other = build(settings)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x, seed=3).loss, other.eval()(x, seed=3).loss)


@pytest.mark.parametrize("keywords", OBJECTIVES, ids=lambda k: "-".join(k.values()))
@pytest.mark.parametrize("training", [True, False])
def test_it_is_one_graph(keywords, training):
    """The gradients are those of eager mode; another beta is no other graph."""
    model = small(**GAUSSIAN, variance="optimal").train(training)
    x = torch.randint(0, 256, (5, 64), dtype=torch.uint8)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    step = torch.compile(model, fullgraph=True, backend=count)
    for i in range(2):
        given = {**keywords, "num_samples": 4, "seed": torch.tensor(i), "beta": schedules.linear(i, 4, start=0.1)}
        results = []
        for call in (model, step):
            model.zero_grad()
            model.observation.log_var.zero_()
            terms = call(x, **given)
            terms.loss.backward()
            results.append([*terms, *(p.grad for p in model.parameters())])
        for eager, compiled in zip(*results, strict=True):
            torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1


@pytest.mark.parametrize(("kind", "compiler"), [("mlp", "inductor"), ("conv per-pixel", "aot_eager")])
def test_a_compiler_gives_the_same(kind, compiler):
    settings = Settings(**{**SMALL, **KINDS[kind]})
    model, x = build(settings), uint8_images(settings)
    given = {"num_samples": 4, "objective": "iwae", "estimator": "dreg", "seed": 1}
    results = []
    for call in (model, torch.compile(model, fullgraph=True, backend=compiler)):
        model.zero_grad()
        terms = call(x, **given)
        terms.loss.backward()
        results.append([*terms, *(p.grad for p in model.parameters())])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)


def test_autocast_needs_no_care():
    model, x = small(model="conv", **GAUSSIAN, variance="per-pixel"), torch.rand(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(x, num_samples=3, objective="iwae")
    assert terms.loss.dtype == torch.float32
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


HEADS = {
    "bernoulli": {},
    "shared": {**GAUSSIAN, "variance": "shared"},
    "factor analysis": {"model": "linear", **GAUSSIAN, "variance": "per-pixel"},
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_a_fused_head_is_the_same_model(kind, objective):
    models = [small(**HEADS[kind], fused_head=fused).double() for fused in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = uint8_images(Settings(**SMALL))
    losses = [model(x, num_samples=3, objective=objective, seed=1).loss for model in models]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    parameters = [list(model.parameters()) for model in models]
    grads = [torch.autograd.grad(loss, given) for loss, given in zip(losses, parameters, strict=True)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_where_there_is_no_fused_head():
    for keywords, reason in (
        ({"model": "conv"}, "does not end in a linear layer"),
        ({"likelihood": "poisson"}, "there is no fastvae.linear_poisson_log_prob"),
        ({**GAUSSIAN, "variance": "optimal"}, "after the whole batch"),
        ({**GAUSSIAN, "variance": "per-pixel"}, "a second output"),
    ):
        with pytest.raises(ValueError, match=f"no fused_head: .*{reason}"):
            Settings(**{**SMALL, **keywords}, fused_head=True)
    conv = small(model="conv")
    conv.fused_head = True
    with pytest.raises(TypeError, match=r"ends in nn\.Linear, got Conv2d"):
        conv(uint8_images(Settings(**SMALL)))
