"""What docs/hooks.py puts into the pages."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests._documents import ROOT


@pytest.fixture
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_of_kernels_are_those_of_the_file(hooks: ModuleType) -> None:
    proofs = json.loads((ROOT / "docs" / "kernels.json").read_text())
    told = hooks.head_bytes()
    for row in proofs["head"]["rows"]:
        assert f"| {row['ratio']:.4g} |" in told
    worst = max(row["ratio"] for row in proofs["traffic"]["rows"] if row["op"] == "class_evidence")
    assert f"| {worst:.4g} |" in hooks.bytes_over_floor()


def test_figures_of_the_bench_begin_where_a_peer_is_better(
    hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "BENCH", tmp_path / "bench.json")
    assert "No results" in hooks.bench()
    rows: list[dict[str, Any]] = [
        {"case": "won", "ours": "a: 1 ms", "peer": "b: 2 ms", "peer / ours": 2.0},
        {"case": "lost", "ours": "a: 4 ms", "peer": "c|d: 3 ms", "peer / ours": 0.75},
        {"case": "alone", "ours": "a: 1 ms"},
    ]
    hooks.BENCH.write_text(json.dumps({"inference": {"versions": {"torch": "2.14", "date": "today"}, "rows": rows}}))
    first, _, rest = hooks.bench().partition("### inference")
    assert "better in 1 of 2" in first
    assert "lost" in first
    assert "won" not in first
    assert "| alone | a: 1 ms |  |  |" in rest
    assert r"c\|d" in rest
    assert "(torch 2.14, date today)" in rest


def test_a_section_ends_where_the_next_begins(
    hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text(
        "# Title\n\nIntro.\n\n## One\n\n[a](docs/a.md) [b](kernels/b.py) [c](https://c.org)\n\n### Sub\n\n## Two\n\nx\n"
    )
    assert hooks.section("README.md", "") == "Intro."
    assert hooks.section("README.md", "One") == "[a](a.md) b [c](https://c.org)\n\n### Sub"
    with pytest.raises(KeyError, match="Three"):
        hooks.section("README.md", "Three")


def test_a_marker_that_nothing_fills_stops_the_build(hooks: ModuleType) -> None:
    with pytest.raises(KeyError):
        hooks.on_page_markdown('text\n\n{{ nothing("here") }}\n')


def test_the_study_is_linked_where_there_is_one(
    hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "STUDY", tmp_path / "explanations.md")
    assert hooks.study() == ""
    hooks.STUDY.touch()
    assert "](explanations.md)" in hooks.study()


def test_every_command_has_its_help(hooks: ModuleType) -> None:
    from abn_fast.cli.main import commands

    told = hooks.commands()
    for name in commands.commands:
        assert f"### {name}" in told
    assert "### kernels check" in told
    assert "--targets" in told
