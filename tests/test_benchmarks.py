"""The benchmarks' arithmetic on made-up reports, and that what they compare agrees."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks import measure, report
from benchmarks.__main__ import main
from benchmarks.cases import CASES, DTYPES, OPERATORS, SHAPES, Case
from benchmarks.workload import OPERANDS, variants, verify, workload


def entries(operator, shape, dtype, **medians):
    return [
        {
            "extra_info": {"operator": operator, "shape": shape, "dtype": dtype, "variant": variant},
            "stats": {"median": median},
        }
        for variant, median in medians.items()
    ]


DOCUMENT = {
    "machine_info": {"cpu": "an abacus", "threads": "2"},
    "commit_info": {"id": "0123456789abcdef", "dirty": True},
    "benchmarks": [
        *entries("kl_standard_normal", [2, 3], "fp32", fastvae=1e-6, eager=2e-6, compiled=9e-6),
        *entries("rsample_kl", [4, 5], "fp32", fastvae=2e-6, eager=16e-6, compiled=2e-6),
        *entries("rsample_kl", [4, 5], "bf16", fastvae=4e-6, eager=2e-6, compiled=12e-6),
        *entries("rsample_kl", [6, 7], "bf16", fastvae=4e-6, eager=1e-6),
        {"extra_info": {"floor": "engine: 1.0 us"}, "stats": {"median": 1e-6}},
    ],
}


def test_ratios_are_of_medians():
    found = {(result.name, result.dtype): result for result in report.results(DOCUMENT)}
    assert found["kl_standard_normal 2x3", "fp32"].ratio("eager") == pytest.approx(2)
    assert found["kl_standard_normal 2x3", "fp32"].ratio("compiled") == pytest.approx(9)
    assert found["rsample_kl 4x5", "bf16"].ratio("eager") == pytest.approx(0.5)


def test_incomplete_cases_are_left_out():
    assert len(report.results(DOCUMENT)) == 3


def test_summaries():
    found = {(s.dtype, s.rival): s for s in report.summaries(report.results(DOCUMENT))}
    eager, compiled = found["fp32", "eager"], found["fp32", "compiled"]
    assert eager.mean == pytest.approx(4)  # sqrt(2 * 8)
    assert (eager.minimum, eager.slowest) == (pytest.approx(2), "kl_standard_normal 2x3")
    assert compiled.mean == pytest.approx(3)  # sqrt(9 * 1)
    assert (compiled.minimum, compiled.slowest) == (pytest.approx(1), "rsample_kl 4x5")
    assert found["bf16", "eager"].mean == pytest.approx(0.5)


def test_table():
    text = report.render(DOCUMENT)
    cells = [cell.strip() for line in text.splitlines() if "| rsample_kl " in line for cell in line.split("|")]
    assert cells[1:9] == ["rsample_kl", "4x5", "fp32", "2.0", "16.0", "2.0", "8.00x", "1.00x"]
    assert "- engine: 1.0 us" in text
    assert "commit 0123456789ab with uncommitted changes" in text


def test_nothing_measured():
    assert "No case was measured" in report.render({**DOCUMENT, "benchmarks": []})


def test_cases_are_unique_and_complete():
    assert len(set(map(str, CASES))) == len(CASES) == len(OPERATORS) * len(SHAPES) * len(DTYPES)
    assert OPERANDS.keys() == set(OPERATORS)
    assert any(case.quick for case in CASES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_variants_agree(operator, dtype):
    work = workload(Case(operator, (6, 50), dtype))
    for name, function in variants(operator, compiler="aot_eager").items():
        verify(work, name, work.call(function))


@pytest.mark.parametrize("operator", OPERATORS)
def test_deviation_is_found(operator):
    work = workload(Case(operator, (6, 50), "fp32"))
    function = variants(operator)["fastvae"]
    wrong = replace(work, cotangents=tuple(t + 0.01 for t in work.cotangents))
    with pytest.raises(AssertionError, match=f"fastvae, {operator} 6x50 fp32: gradient 0"):
        verify(work, "fastvae", wrong.call(function))
    with pytest.raises(AssertionError):
        verify(work, "fastvae", work.call(lambda *operands: _with_nan(function(*operands))))


def _with_nan(outputs):
    return tuple(t * math.nan for t in outputs) if isinstance(outputs, tuple) else outputs * math.nan


def test_other_noise_is_found():
    work = workload(Case("rsample_kl", (100, 50), "fp32"))
    wide = variants("rsample_kl")["fastvae"]
    with pytest.raises(AssertionError, match="is not N"):
        verify(work, "wide", work.call(lambda mean, log_var: wide(mean, log_var + 0.5)))


def test_rounds_fill_the_budget_within_bounds():
    budget = measure.Budget(seconds=1.0, least=5, most=100)
    assert [budget.rounds(seconds) for seconds in (1.0, 0.05, 1e-4)] == [5, 20, 100]


def test_samples_hold_enough_calls():
    samples = measure.measure({"sum": torch.ones(3).sum}, measure.Budget(seconds=0.01, least=3, most=4))
    assert 3 <= len(samples["sum"].seconds) <= 4
    assert samples["sum"].iterations > 10


def test_unwritable_directory_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "below")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
