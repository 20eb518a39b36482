import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

from abn_fast._errors import AbnFastError
from abn_fast.cli import main
from abn_fast.kernels import _dispatch
from abn_fast.proofs import report, tables, traffic
from abn_fast.proofs.report import BEGIN, END, failures, with_tables, write_document

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

ROOT = Path(__file__).parents[2]
MACHINE_CODE: dict[str, Any] = {
    "op": "attention_gate",
    "kernel": "forward_kernel",
    "direction": "forward",
    "target": "sm_90",
    "dtype": "float16",
    "layout": "contiguous",
    "case": "N 1",
    "config": {"num_warps": 8},
    "registers": 40,
    "spills": 0,
    "shared": 1024,
    "occupancy": 0.75,
    "vector_bits": 128,
    "tensor_core": ["HGMMA.64x64x16.F32"],
    "ok": True,
    "problems": [],
}
HEAD: dict[str, Any] = {"case": "N 32", "bytes": 42, "peer_bytes": 100, "ratio": 0.42, "ok": True}


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Rows of the proofs, in the place of what takes minutes."""
    rows = {name: [HEAD] for name in report.PROOFS} | {"machine_code": [MACHINE_CODE]}
    monkeypatch.setattr(report, "_rows", lambda name: lambda **arguments: rows[name])
    return rows


def exit_code(*arguments: str) -> int:
    try:
        main(["kernels", "check", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_prints_tables_writes_all_rows_and_succeeds(
    proofs: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    assert exit_code("--only", "machine_code,head", "--json", str(file)) == 0
    found = json.loads(file.read_text())
    assert found.keys() == {"machine_code", "head", "versions"}
    assert found["machine_code"] == [MACHINE_CODE]
    printed = capsys.readouterr().out
    assert "forward_kernel  1        1         40         0       1024    0.75       128   HGMMA" in printed
    assert "2 checks, 0 failed" in printed


def test_a_row_that_fails_is_printed_and_fails_the_command(
    proofs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    proofs["head"] = [HEAD, HEAD | {"ratio": 0.61, "ok": False}]
    assert exit_code("--only", "machine_code,head") == 1
    captured = capsys.readouterr()
    assert captured.err.count("FAILED") == 1
    assert '"ratio": 0.61' in captured.err
    assert "3 checks, 1 failed" in captured.out


def test_a_proof_without_rows_fails(proofs: dict[str, Any]) -> None:
    assert failures({"head": [], "versions": {}}) == [("head", {"problems": "no rows"})]


@pytest.mark.parametrize("arguments", [["--targets", "sm_91"], ["--only", "speed"], ["--op", "sobel"]], ids=str)
def test_unknown_names_are_refused_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert arguments[1] in line


@pytest.mark.parametrize(("name", "value"), [("_HAS_TRITON", False), ("INTERPRETED", True)])
def test_without_a_compiler_the_way_out_is_said(name: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, name, value)
    with pytest.raises(AbnFastError, match=r"pip install triton|unset"):
        report.run(["machine_code"])


def test_the_document_keeps_its_text_and_the_tables_of_other_proofs(
    proofs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AbnFastError, match=r"docs/kernels\.md does not exist"):
        write_document(report.run(["head"]))
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "kernels.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_document(report.run(["machine_code"]))
    write_document(report.run(["head"]))
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| attention_gate | forward_kernel | 1 | 1 | 40 | 0 | 1024 | 0.75 | 128 | HGMMA |" in text
    assert "| N 32 | 42 | 100 | 0.42 |" in text
    assert "old" not in text
    data = json.loads((tmp_path / "docs" / "kernels.json").read_text())
    assert list(data) == ["machine_code", "head"]


def test_a_summary_has_the_extremes_of_its_rows() -> None:
    rows = [MACHINE_CODE, MACHINE_CODE | {"registers": 50, "occupancy": 0.5, "vector_bits": 64, "ok": False}]
    (summary,) = tables.machine_code(rows)
    assert (summary["registers"], summary["occupancy"], summary["vector_bits"]) == (50, 0.5, 64)
    assert (summary["compiled"], summary["ok"]) == (2, False)


def test_the_committed_tables_are_those_of_the_committed_data_and_of_these_kernels() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text()
    data = json.loads((ROOT / "docs" / "kernels.json").read_text())
    renew = "abn-fast kernels check --write-docs"
    assert list(data) == list(report.PROOFS), renew
    assert with_tables(text, data) == text, renew
    stale = [name for name, section in data.items() if section["versions"]["sources"] != report.sources()]
    assert not stale, renew


@pytest.mark.slow
def test_committed_bytes_are_those_that_the_interpreter_counts_again() -> None:
    committed = json.loads((ROOT / "docs" / "kernels.json").read_text())["traffic"]["rows"]
    again = tables.traffic(traffic.rows(["attention_gate_from_taps"]))
    assert again == [row for row in committed if row["op"] == "attention_gate_from_taps"]
    assert again
