import json
import shutil
from pathlib import Path

import pytest

from abn_fast.benchmark_report import read_json
from abn_fast.benchmark_report import suites as suites_file
from tests.cli.conftest import Run

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

ROOT = Path(__file__).parents[2]
TINY = """
import pytest

from abn_fast.benchmark_report import Case, Comparison
from bench._compare import kept, note

CASES = [Case("abn_short", batch=n) for n in (1, 2)] + [Case("abn_long", batch=1)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_if(case, benchmark):
    note(benchmark, Comparison.of(case, "seconds", {"ours": [OURS], "slow peer": [0.02]}))
    kept(benchmark)
"""
WRONG = """
from abn_fast.benchmark_report import Case
from bench._compare import compare


def same(own, theirs):
    assert own == theirs, f"{own} against {theirs}"


def test_wrong(benchmark):
    compare(benchmark, Case("abn_wrong"), ("ours", lambda: 41), {"peer": lambda: 42}, same)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder of suites: the project's plumbing, tests of its own."""
    folder = tmp_path / "bench"
    folder.mkdir()
    for name in ("__init__.py", "conftest.py", "_compare.py"):
        shutil.copy(ROOT / "bench" / name, folder)
    (folder / "test_tiny.py").write_text(TINY.replace("OURS", "0.01"))
    return folder


def test_a_suite_is_run_and_reported(run: Run, bench: Path) -> None:
    done = run("bench", "--folder", bench, "--out", "out", "--models", "abn_sh*", "--write-docs", "docs.json")
    assert done.code == 0, done.err
    assert "[1/1] tiny" in done.out
    assert "a peer is better in 0 of 2 comparisons; 0 tests did not hold" in done.out
    results = read_json(Path("out/results.json"))
    assert [each.case.batch for each in results.comparisons] == [1, 2]
    assert [each.ratio for each in results.comparisons] == [2, 2]
    assert results.command == "abn-fast bench --models=abn_sh*"
    assert Path("out/results.csv").read_text().count("slow peer") == 2
    assert "<svg" in Path("out/report.html").read_text()
    assert len(json.loads(Path("docs.json").read_text())["tiny"]["rows"]) == 2

    (bench / "test_tiny.py").write_text(TINY.replace("OURS", "0.05"))
    again = run("bench", "--folder", bench, "--out", "again", "--models", "abn_short", "--against", "out/results.json")
    assert again.code == 1
    assert "2 of 2 got slower than in out/results.json" in again.out
    assert "a peer is better in 2 of 2 comparisons" in again.out
    assert "Against out/results.json" in Path("again/report.html").read_text()


def test_a_run_that_was_stopped_goes_on_after_its_last_suite(run: Run, bench: Path) -> None:
    options = ("bench", "--folder", bench, "--out", "out", "--resume")
    (bench / "test_tremendous.py").write_text("import nothing_of_this_name")
    assert run(*options).code == 2
    measured = read_json(Path("out/results.json"))
    (bench / "test_tremendous.py").write_text(TINY.replace("OURS", "0.01").replace("as_if", "as_if_too"))

    (bench / "test_tiny.py").write_text("import nothing_of_this_name")
    done = run(*options)
    assert done.code == 0, done.err
    assert "[1/2] tiny: kept" in done.out
    results = read_json(Path("out/results.json"))
    assert [each.name for each in results.suites] == ["tiny", "tremendous"]
    assert results.comparisons[:3] == measured.comparisons
    assert len(results.comparisons) == 6

    other = run(*options, "--quick")
    assert other.code == 2
    assert "has another command, abn-fast bench; now abn-fast bench --quick: go on as it was begun" in other.err


def test_a_wrong_result_is_a_failure_and_has_no_speed(run: Run, bench: Path) -> None:
    (bench / "test_wrong.py").write_text(WRONG)
    done = run("bench", "--folder", bench, "--suite", "wrong", "--out", "out")
    assert done.code == 1
    assert "FAILED test_wrong.py::test_wrong: AssertionError: 41 against 42" in done.err
    results = read_json(Path("out/results.json"))
    assert results.comparisons == []
    assert [(each.passed, each.failed) for each in results.suites] == [(0, 1)]
    assert "41 against 42" in Path("out/report.html").read_text()


def test_a_suite_that_cannot_be_read_stops_the_run_with_one_line(run: Run, bench: Path) -> None:
    (bench / "test_tiny.py").write_text("import nothing_of_this_name")
    done = run("bench", "--folder", bench, "--out", "out")
    assert done.code == 2
    assert done.err.startswith("abn-fast: suite tiny: ")


def test_without_suites_one_line_says_where_they_are(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suites_file, "PACKAGE", tmp_path)
    done = run("bench")
    assert done.code == 2
    assert done.err.startswith(f"abn-fast: no suites in {tmp_path / 'bench'}: ")
    assert done.err.count("\n") == 1


def test_a_suite_that_is_not_there_is_named(run: Run, bench: Path) -> None:
    done = run("bench", "--folder", bench, "--suite", "tidy")
    assert done.code == 2
    assert "suite='tidy'; expected one of 'tiny'" in done.err


def test_an_earlier_run_is_read_before_anything_is_measured(run: Run, bench: Path) -> None:
    done = run("bench", "--folder", bench, "--against", "nothing.json")
    assert done.code == 2
    assert "nothing.json cannot be read" in done.err
    assert "[1/1]" not in done.out


def test_rich_is_asked_for_before_anything_is_measured(run: Run, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich", None)
    done = run("bench", "--folder", bench)
    assert done.code == 2
    assert "pip install 'abn-fast[bench]'" in done.err
    assert "[1/1]" not in done.out
