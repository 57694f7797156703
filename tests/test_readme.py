"""The README's figures are those of the reports that it names."""

from __future__ import annotations

import json
import re

import made_up
import pytest

from benchmarks import readme
from fastvae.measure.reports.document import ReportError

TEXT = (readme.ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_equals_its_reports():
    assert list(readme.BLOCK.finditer(TEXT)), "the README names no report"
    assert readme.generated(TEXT) == TEXT, "run `python -m benchmarks.readme`"


def test_a_changed_figure_is_found():
    figure = next(readme.BLOCK.finditer(TEXT)).group().split(" / ")[1][:4]
    assert readme.generated(TEXT.replace(figure, "9.99", 1)) == TEXT


def test_the_model_of_the_readme_trains():
    section = TEXT.split("\n## Models\n")[1].split("\n## ")[0]
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["images"].shape == (64, 1, 8, 8)
    assert names["log_px"].mean() > -30  # untrained: -64 log 2 = -44 nats
    assert names["log_px"].mean() > names["bound"] - 0.1


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    folder = tmp_path / "benchmarks" / "reports"
    folder.mkdir(parents=True)
    made_up.write(folder / "old.json", made_up.report(1))
    made_up.write(folder / "new.json", made_up.report(2))
    marked = "<!-- measured: benchmarks/reports/old.json -->\n<!-- end of what was measured -->"
    (tmp_path / "README.md").write_text(f"Before.\n\n{marked}\n\nAfter.\n")
    return tmp_path


def test_a_new_report_replaces_the_old_one(repository):
    new = repository / "benchmarks" / "reports" / "new.json"
    assert readme.main([str(new)]) == 0
    text = (repository / "README.md").read_text()
    assert text.startswith("Before.\n\n<!-- measured: benchmarks/reports/new.json -->\n| float32 | 128x20 |")
    assert text.endswith("<!-- end of what was measured -->\n\nAfter.\n")
    medians = {e["name"]: e["stats"]["median"] for e in json.loads(new.read_text())["benchmarks"]}
    native, eager = (medians[f"rsample_kl 128x20 fp32 forward+backward {name}"] for name in ("native", "eager"))
    row = next(line for line in text.splitlines() if line.startswith("| `rsample_kl`"))
    assert row.split(" | ")[1].startswith(f"{eager / native:.2f} / ")
    assert new.with_suffix(".md").read_text().startswith("# Report new.json")


def test_a_report_of_fewer_cases_leaves_the_block(repository, capsys):
    part = made_up.report(2, operators=made_up.OPERATORS[:1])
    path = made_up.write(repository / "benchmarks" / "reports" / "part.json", part)
    assert readme.main([str(path)]) == 0
    assert "<!-- measured: benchmarks/reports/old.json -->\n| float32" in (repository / "README.md").read_text()
    assert "README.md keeps benchmarks/reports/old.json" in capsys.readouterr().err
    assert path.with_suffix(".md").exists()


def test_a_report_of_another_machine_asks_for_a_place(repository, capsys):
    other = made_up.report(2, machine={**made_up.MACHINE, "gpu": "a GPU"})
    path = made_up.write(repository / "benchmarks" / "reports" / "gpu.json", other)
    assert readme.main([str(path)]) == 2
    assert "README.md has no block from a GPU" in capsys.readouterr().err


def test_a_report_must_be_committed_to_be_shown(repository, tmp_path):
    path = made_up.write(tmp_path / "elsewhere.json", made_up.report(1))
    with pytest.raises(ReportError, match="copy it to benchmarks/reports"):
        readme.adopted("", path)


def test_training_steps_are_shown(repository):
    found = made_up.report(1)
    step = made_up.entry("MLP VAE", "", [1], "naive, eager", "naive", [2e-3] * 9, "training")
    step["extra_info"]["elbo_seconds"] = 3e-4
    found["benchmarks"].append(step)
    made_up.write(repository / "benchmarks" / "reports" / "old.json", found)
    assert readme.main([]) == 0
    assert "| MLP VAE | naive, eager | 2 ms | 300 us |" in (repository / "README.md").read_text()
