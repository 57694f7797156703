"""Comparing reports: noise is not called an effect, an effect is found, and what is no report is said in a line."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import numpy as np
import pytest

from fastvae import cli
from fastvae.measure.reports import document, render
from fastvae.measure.reports.compare import compare
from fastvae.measure.reports.scaling import slope
from fastvae.measure.reports.statistics import LEAST_FLOOR, STATED_FLOOR, noise_floor, ratio_interval

RECORDED = max((Path(__file__).parent.parent / "benchmarks" / "reports").glob("*-threads.json"))  # the newest


def parsed(content, name="report.json"):
    return document.parse(content, name)


def significant(before, after):
    rows = compare(parsed(before), parsed(after)).rows
    return [row for row in rows if row.significant], len(rows)


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


@pytest.fixture
def pair(tmp_path):
    """(before, after): after, one kernel takes 1.3 times as long."""
    slowed = {("rsample_kl", "native"): 1.3}
    before = made_up.write(tmp_path / "a.json", made_up.report(1))
    return before, made_up.write(tmp_path / "b.json", made_up.report(2, slowed=slowed))


@pytest.mark.parametrize("noise", [0.002, 0.015, 0.06], ids=["quiet", "usual", "disturbed"])
def test_two_runs_of_one_commit_differ_in_at_most_a_twentieth(noise):
    for seed in range(4):
        rows, cases = significant(made_up.report(2 * seed, noise), made_up.report(2 * seed + 1, noise))
        assert len(rows) <= 0.05 * cases


def test_halves_of_a_recorded_run_differ_in_at_most_a_twentieth():
    """A real machine, with the drift that it had."""
    halves: tuple[list, list] = ([], [])
    for entry in json.loads(RECORDED.read_text())["benchmarks"]:
        info, data = entry["extra_info"], entry["stats"]["data"]
        if "operator" in info:
            for half, seconds in zip(halves, (data[: len(data) // 2], data[len(data) // 2 :]), strict=True):
                about = (info["case"], info["operator"], info["shape"], info["variant"], info["role"])
                half.append(made_up.entry(*about, seconds))
    rows, cases = significant(*map(made_up.wrap, halves))
    assert cases == len(halves[0]) > 100
    assert len(rows) <= 0.05 * cases


@pytest.mark.parametrize("noise", [0.002, 0.015])
def test_a_slowed_kernel_is_found(noise):
    slowed = {("rsample_kl", "native"): 1.3}
    rows, cases = significant(made_up.report(1, noise), made_up.report(2, noise, slowed=slowed))
    hits = [row for row in rows if row.after["operator"] == "rsample_kl" and row.after.variant == "native"]
    assert len(hits) >= len(made_up.SIZES) - 1
    assert all(row.ratio > 1.15 for row in hits)
    assert len(rows) - len(hits) <= 0.05 * cases


def test_a_faster_kernel_is_no_failure():
    faster = {("rsample_kl", "native"): 1 / 1.5}
    comparison = compare(parsed(made_up.report(1)), parsed(made_up.report(2, slowed=faster)))
    assert len([row for row in comparison.rows if row.significant and row.ratio < 0.8]) >= 5
    assert comparison.slower_than(1.05) == []


def test_a_slower_rival_is_no_failure():
    slowed = {("rsample_kl", "eager"): 1.5}
    assert compare(parsed(made_up.report(1)), parsed(made_up.report(2, slowed=slowed))).slower_than(1.05) == []


def test_a_rival_that_moved_hides_nothing_where_the_environment_changed():
    """A new torch speeds eager up and slows our kernel down: the former must not pass for noise in the latter."""
    slowed = {("rsample_kl", "native"): 1.4, ("rsample_kl", "eager"): 0.5}
    newer = {**made_up.MACHINE, "torch": "2.14.0"}
    comparison = compare(parsed(made_up.report(1)), parsed(made_up.report(2, slowed=slowed, machine=newer)))
    assert len(comparison.slower_than(1.05)) >= 5
    assert comparison.floor.log == STATED_FLOOR


def test_disturbed_runs_are_called_so():
    texts = [
        render.comparison(compare(parsed(made_up.report(1, n)), parsed(made_up.report(2, n)))) for n in (0.005, 0.1)
    ]
    assert ["measure again" in text for text in texts] == [False, True]


def test_noise_floor():
    assert noise_floor([0.0] * 50, 60, True).log == LEAST_FLOOR
    assert noise_floor([0.001] * 48 + [0.3] * 4, 60, True).log >= 0.3
    assert noise_floor([0.5] * 5, 6, True).log == STATED_FLOOR
    assert noise_floor([0.5] * 50, 60, False).log == STATED_FLOOR


def test_interval_covers_the_ratio():
    random, covered = np.random.default_rng(0), 0
    for _ in range(60):
        interval = ratio_interval(random.normal(1, 0.05, 40), random.normal(1.2, 0.05, 40))
        covered += interval.low <= 1.2 <= interval.high
        assert 1.1 < interval.low < interval.ratio < interval.high < 1.3
    assert covered >= 55


def test_interval_of_drifting_samples_is_wider():
    random = np.random.default_rng(0)
    steady = random.normal(1, 0.02, 64)
    drifting = np.sort(steady)  # the same samples, each close to its neighbours
    wide, narrow = ratio_interval(drifting, drifting), ratio_interval(steady, steady)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_environment_comes_first_and_cases_of_one_report_are_listed(pair, capsys):
    before, after = pair
    other = made_up.report(3, machine={**made_up.MACHINE, "torch": "2.14.0"}, operators=made_up.OPERATORS[:3])
    made_up.write(after, other)
    status, out, err = run(capsys, "compare", before, after)
    assert (status, err) == (0, [])
    assert out.index("2.14.0") < out.index("Verdict") < out.index("Cases") < out.index(f"Only in {before}")
    assert "- kl_standard_normal 128x20 fp32 forward+backward native" in out
    assert f"Only in {after}" not in out


def test_threshold_decides_the_exit_status(pair, capsys):
    before, after = pair
    assert run(capsys, "compare", before, after)[0] == 0
    status, out, err = run(capsys, "compare", before, after, "--fail-above", "1.05")
    assert (status, err) == (1, [])
    assert "past the threshold" in out
    assert run(capsys, "compare", before, after, "--fail-above", "2")[0] == 0
    assert run(capsys, "compare", after, before, "--fail-above", "1.05")[0] == 0


def test_markdown(pair, capsys):
    _, out, _ = run(capsys, "compare", *pair, "--markdown")
    assert out.startswith("# From ")
    assert "\n## Cases\n\n| case " in out


def test_plots_are_whole_files(pair, tmp_path, capsys):
    before, after = pair
    folder = tmp_path / "plots"
    assert run(capsys, "compare", before, after, "--plots", folder)[0] == 0
    assert {path.name for path in folder.iterdir()} == {"bandwidth.png", "memory.png", "ratios.png"}
    assert run(capsys, "report", after, "--plots", folder)[0] == 0
    assert {"speedup.png"} <= {path.name for path in folder.iterdir()}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"benchmarks": [{"na', "is no JSON, or was cut off"),
        (b"\xff\xfe\x00", "not text"),
        (b"[]", "holds no benchmarks"),
        (b'{"results": []}', "holds no benchmarks"),
        (b'{"benchmarks": []}', "schema version 1; this fastvae reads version 2"),
        (b'{"fastvae_report": 3, "benchmarks": []}', "schema version 3; this fastvae reads version 2"),
        (b'{"fastvae_report": 2, "benchmarks": [{}]}', "is a damaged report"),
        (b'{"fastvae_report": 2, "benchmarks": [7]}', "is a damaged report"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "report"])
def test_what_is_no_report_is_one_line(command, content, message, pair, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    status, out, err = run(capsys, command, *([pair[0], bad] if command == "compare" else [bad]))
    assert (status, out, len(err)) == (2, "", 1)
    assert message in err[0]
    assert str(bad) in err[0]


def test_samples_that_are_no_times_are_damage(pair, tmp_path, capsys):
    report = made_up.report(1)
    report["benchmarks"][3]["stats"]["data"][0] = -1.0
    status, _, err = run(capsys, "compare", pair[0], made_up.write(tmp_path / "bad.json", report))
    assert (status, len(err)) == (2, 1)
    assert "samples that are no times" in err[0]


def test_no_common_case_is_one_line(tmp_path, capsys):
    a = made_up.report(1, operators=made_up.OPERATORS[:1])
    b = made_up.report(1, operators=made_up.OPERATORS[1:2])
    for report in (a, b):
        report["benchmarks"].pop()  # the copy, which every run measures
    files = [made_up.write(tmp_path / name, report) for name, report in (("a.json", a), ("b.json", b))]
    status, out, err = run(capsys, "compare", *files)
    assert (status, out, len(err)) == (2, "", 1)
    assert "no case in common" in err[0]


def test_missing_file_is_one_line(pair, tmp_path, capsys):
    status, out, err = run(capsys, "compare", pair[0], tmp_path / "none.json")
    assert (status, out, len(err)) == (2, "", 1)
    assert "No such file" in err[0]


@pytest.mark.parametrize("ratio", ["x", "0", "-1", "nan", "inf"])
def test_threshold_that_is_no_ratio(ratio, pair, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(capsys, "compare", *pair, f"--fail-above={ratio}")
    assert stopped.value.code == 2
    assert "is no ratio" in capsys.readouterr().err


def test_unwritable_plots_are_found_before_any_work(pair, tmp_path, capsys):
    (tmp_path / "file").touch()
    status, out, err = run(capsys, "compare", *pair, "--plots", tmp_path / "file" / "plots")
    assert (status, out, len(err)) == (2, "", 1)


def test_report_says_everything_but_samples(capsys, tmp_path):
    report = made_up.report(1)
    report["wrong"], report["complete"] = ["rsample 2x2 fp32 eager: off"], False
    first = report["benchmarks"][0]["extra_info"]
    first |= {"kernels": 3, "energy_joules": 0.5, "power_watts": 321.0, "throttle_reasons": ["SwPowerCap"]}
    training = {"kind": "training", "elbo_seconds": 1e-4, "case": "MLP", "variant": "naive, eager"}
    report["benchmarks"].append(made_up.entry("MLP", "", [1], "naive, eager", "naive", [1e-3], "training"))
    report["benchmarks"][-1]["extra_info"] |= training
    text = render.report(parsed(report))
    for wanted in (
        "broken off",
        "eager: off",
        "SwPowerCap",
        "321 W",
        "500 mJ",
        "of it the ELBO",
        "100 us",
        "an abacus",
    ):
        assert wanted in text


def test_slope_is_of_the_largest_hundredfold():
    elements = [10**k for k in range(3, 8)]
    assert slope(elements, [1e-5 + 1e-9 * n for n in elements]) == pytest.approx(1, abs=0.03)
    assert slope(elements, [float(n * n) for n in elements]) == pytest.approx(2)
    assert slope(elements, [None] * 5) is None
    assert slope([1000], [1.0]) is None
