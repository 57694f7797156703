"""The demo in miniature: its files, its verdict, and its failure where a way deviates."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fastvae.demo import evaluate, report, run
from fastvae.demo.settings import Settings
from fastvae.demo.steps import StepTime
from fastvae.demo.ways import WAYS, fused
from fastvae.files import whole_file
from fastvae.models import MLPVAE

FILES = {"table.md", "results.json", *run.PICTURES}


def settings(out, **other):
    tiny = {"epochs": 4, "noise_runs": 3, "test_samples": 4, "timing_rounds": 3, "hidden": 32, "latent": 4}
    return Settings(out=out, **{**tiny, "compiled": False, **other})


def test_writes_its_files_and_agrees(tmp_path, capsys):
    assert run.run(settings(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["way"] for result in results["results"]] == ["naive, eager", "fastvae, eager"]
    assert results["agreement"]["deviating"] == []
    out = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().strip() in out
    assert "all ways agree" in out


def test_fails_where_a_way_deviates(tmp_path, capsys, monkeypatch):
    def kl_alone(model, x):
        terms = fused(model, x)
        return terms._replace(loss=terms.kl)

    wrong = [*WAYS[:1], type(WAYS[0])("wrong", kl_alone, compiled=False)]
    monkeypatch.setattr(run, "WAYS", wrong)
    assert run.run(settings(tmp_path, epochs=20)) == 1
    assert "not within" in capsys.readouterr().out


def test_a_way_that_diverges_is_named(tmp_path, capsys, monkeypatch):
    def nan(model, x):
        terms = fused(model, x)
        return terms._replace(loss=terms.loss * math.nan)

    monkeypatch.setattr(run, "WAYS", [*WAYS[:1], type(WAYS[0])("diverging", nan, compiled=False)])
    assert run.run(settings(tmp_path)) == 1
    assert "diverging by +nan" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == FILES
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["agreement"]["deviating"] == ["diverging"]
    assert results["results"][1]["test"]["elbo"] is None


@pytest.mark.parametrize(("fused", "said"), [(1.02, "fastvae, eager is 2.0 % behind"), (0.98, "")])
def test_a_way_that_is_behind_is_named(fused, said):
    test = evaluate.Estimate(-24.0, 0.0, -14.0, 10.0)
    steps = {"naive, eager": 1.0, "fastvae, eager": fused}
    results = [report.Result(name, StepTime(step, 0.1), test, 128) for name, step in steps.items()]
    assert report.limit(results).startswith(said)
    assert bool(report.limit(results)) is bool(said)


def test_nan_deviates():
    agreed = evaluate.agreement({"good": 1.0, "nan": math.nan}, [0.9, 1.0, 1.1])
    assert agreed.deviating == ["nan"]


def test_evaluation_knows_the_exact_elbo():
    """With a decoder that ignores z, E[log p(x|z)] is known: the estimate has no variance and equals it."""
    torch.manual_seed(0)
    model, images = MLPVAE(64, 16, 3), torch.rand(7, 64)
    torch.nn.init.zeros_(model.logits.weight)
    estimate = evaluate.evaluate(model, images, num_samples=3)
    p = torch.sigmoid(model.logits.bias).double()
    x = images.double()
    log_px = (x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean().item()
    mean, log_var = (t.double() for t in model.encode(images))
    q = torch.distributions.Normal(mean, torch.exp(log_var / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(q, prior).sum(1).mean().item()
    assert estimate.standard_error == pytest.approx(0, abs=1e-9)
    # The networks are float32 here and float64 in the evaluation.
    assert estimate.elbo == pytest.approx(log_px - kl, rel=1e-5)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report.txt"
    target.write_text("old")

    def fail():
        with whole_file(target) as path:
            path.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
