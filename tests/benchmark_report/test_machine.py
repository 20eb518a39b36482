import platform
import subprocess
from pathlib import Path

import pytest
import torch

from abn_fast import __version__
from abn_fast.benchmark_report import machine as machine_file
from abn_fast.benchmark_report.machine import machine, versions


def test_the_machine_is_described() -> None:
    found = machine()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads()


def test_instruction_sets_are_the_processor_s(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"model name": "Abacus", "flags": "fpu avx2 amx_int8 sse"}
    monkeypatch.setattr(machine_file, "_cpu_field", fields.__getitem__)
    assert machine()["cpu"] == "Abacus"
    assert machine()["instruction sets"] == ["avx2", "amx_int8"]


def test_versions_are_those_installed(tmp_path: Path) -> None:
    found = versions(tmp_path)
    assert found["abn_fast"] == __version__
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["python"] == platform.python_version()
    assert "commit" not in found


def test_the_commit_says_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "x")
    clean = versions(tmp_path)["commit"]
    (tmp_path / "file").write_text("2")
    assert versions(tmp_path)["commit"] == f"{clean}-dirty"
