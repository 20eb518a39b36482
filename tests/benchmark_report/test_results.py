import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from abn_fast import AbnFastError
from abn_fast.benchmark_report import read_json
from abn_fast.benchmark_report.results import write_csv, write_document, write_json
from tests.benchmark_report._made_up import BATCHES, MEMORY, RESULTS, STEP


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_json(RESULTS, tmp_path / "results.json")
    assert read_json(tmp_path / "results.json") == RESULTS


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "cannot be read"), ("[]", "format None"), ('{"schema": 99}', "format 99"), ('{"schema": 1}', "comparisons")],
)
def test_another_file_is_refused_in_one_line(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(AbnFastError, match=why) as refused:
        read_json(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match="none"):
        read_json(tmp_path / "none.json")


def test_the_csv_has_a_row_for_each_comparison(tmp_path: Path) -> None:
    write_csv(RESULTS, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RESULTS.comparisons)
    first = rows[0]
    assert (first["suite"], first["model"], first["batch"], first["classes"]) == ("inference", "abn_resnet18", "1", "0")
    assert [float(first[f"ours {each}"]) for each in ("lower", "median", "upper")] == pytest.approx(
        [0.009, 0.01, 0.011]
    )
    assert (first["peer name"], float(first["ratio"])) == ("published", 2)
    assert rows[-1]["peer name"] == rows[-1]["ratio"] == ""


def test_what_is_lost_comes_worst_first() -> None:
    assert RESULTS.lost() == [STEP[2]]
    assert RESULTS.of("scaling")[0] == MEMORY


def docs_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", Path(__file__).parents[2] / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documentation_shows_what_is_written_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks, path = docs_hooks(), tmp_path / "bench.json"
    write_document(RESULTS, path)
    assert set(json.loads(path.read_text())) == {"inference", "training", "scaling", "cold_start"}
    monkeypatch.setattr(hooks, "BENCH", path)
    shown = hooks.bench()
    assert f"| {BATCHES[0].case} | ours: 10 ms | published: 20 ms | 2 |" in shown
    assert "Abacus 9000" in shown
    assert "torch 9.9" in shown
