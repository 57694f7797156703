"""The command line as a user meets it: exit statuses, one line on stderr, nothing written on failure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastvae import backends, cli
from fastvae.measure import suite


def run(capsys, *arguments):
    """(exit status, stdout, lines of stderr)"""
    try:
        status = cli.main(arguments)
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required"),
        (("paint",), "invalid choice: 'paint'"),
        (("demo", "--epochs", "0"), "0 is not in 1 to"),
        (("demo", "--seed", "99999999999999999999"), "99999999999999999999 is not in 0 to"),
        (("demo", "--threads", "3000000000"), "3000000000 is not in 1 to"),
        (("demo", "--epochs", "many"), "invalid"),
        (("demo", "--colour", "red"), "unrecognized arguments: --colour red"),
        (("bench", "--suite", "slow"), "invalid choice: 'slow'"),
        (("bench", "--threads", "0"), "0 is not in 1 to"),
        (("compare", "a.json"), "required: B.json"),
    ],
)
def test_wrong_argument(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out, len(err)) == (2, "", 1)
    assert message in err[0]


def test_unwritable_out_is_found_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("fastvae.demo.run.train", lambda *_, **__: pytest.fail("work has begun"))
    file = tmp_path / "file"
    file.write_text("kept")
    status, out, err = run(capsys, "demo", "--quick", "--out", str(file / "demo"))
    assert (status, out, len(err)) == (2, "", 1)
    assert str(file / "demo") in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "kept"


def test_blocked_file_is_found_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("fastvae.demo.run.train", lambda *_, **__: pytest.fail("work has begun"))
    (tmp_path / "table.md").mkdir()
    status, out, err = run(capsys, "demo", "--quick", "--out", str(tmp_path))
    assert (status, out) == (2, "")
    assert err == [f"fastvae: {tmp_path / 'table.md'}: Is a directory"]
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_missing_extra_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("fastvae.extras.find_spec", lambda name: None if name == "sklearn" else object())
    status, _, err = run(capsys, "demo", "--out", str(tmp_path / "out"))
    assert (status, len(err)) == (2, 1)
    assert "pip install 'fastvae[train]'" in err[0]
    assert not (tmp_path / "out").exists()


def test_bench_names_its_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("fastvae.extras.find_spec", lambda name: None if name == "pytest" else object())
    status, _, err = run(capsys, "bench", "--out", str(tmp_path / "out" / "report.json"))
    assert (status, len(err)) == (2, 1)
    assert "pip install 'fastvae[bench]'" in err[0]
    assert not (tmp_path / "out").exists()


def test_bench_without_its_suite_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("fastvae.measure.suite.find_spec", lambda name: None)
    monkeypatch.setattr("fastvae.measure.suite.__file__", str(tmp_path / "fastvae" / "measure" / "suite.py"))
    status, _, err = run(capsys, "bench", "--out", str(tmp_path / "report.json"))
    assert (status, len(err)) == (2, 1)
    assert "benchmarks are not installed" in err[0]


def test_bench_finds_an_unwritable_report_before_any_work(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(f"{suite._package()}.__main__.measure", lambda *_: pytest.fail("work has begun"))
    status, _, err = run(capsys, "bench", "--out", str(tmp_path))
    assert (status, err) == (2, [f"fastvae: {tmp_path}: Is a directory"])


def test_bench_hands_its_options_to_the_suite(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(f"{suite._package()}.__main__.measure", lambda *arguments: given.append(arguments) or 0)
    assert cli.main(["bench", "--suite", "full", "--out", str(tmp_path / "a.json"), "-k", "bernoulli and fp32"]) == 0
    options = ["--suite=full", "--device=auto", "--threads=2", "-k", "bernoulli and fp32"]
    assert given == [(tmp_path / "a.json", None, options)]


def test_interrupt_is_one_line(capsys, monkeypatch, tmp_path):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastvae.demo.run.run", interrupted)
    assert run(capsys, "demo", "--out", str(tmp_path)) == (130, "", ["fastvae: interrupted"])


def test_info_says_who_serves_and_why_no_other_does():
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "fastvae", "info"], env=environment, capture_output=True, text=True, check=True
    )
    serving = "native" if backends.BACKENDS["native"].why_not("cpu") is None else "reference"
    assert f"serves cpu:           {serving}\n" in done.stdout
    assert "  not triton:         Triton" in done.stdout
    for library in ("_cpu.so", "_cuda.so"):
        assert f"library {library}:" in done.stdout
