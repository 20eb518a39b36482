"""Which tests the quick form and --models take."""

import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

from bench.conftest import QUICK

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest
from abn_fast.benchmark_report import Case

@pytest.mark.parametrize("case", [Case("abn_resnet18", batch=1), Case("abn_vgg16", batch=1)], ids=str)
def test_by_cases(case): pass

@pytest.mark.models("abn_resnet50", "abn_vgg16")
def test_by_marker(): pass

def test_of_no_model(): pass
"""


def collected(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "bench", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.removeprefix("bench/") for line in done.stdout.splitlines() if "::" in line]


def test_every_pattern_of_the_quick_form_names_a_test() -> None:
    everything = collected(ROOT)
    suites = {test.partition("::")[0] for test in everything}  # without those whose packages are missing
    for pattern in QUICK:
        if pattern.partition("::")[0] in suites:
            assert any(fnmatch(test, pattern) for test in everything), pattern


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    (folder / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "conftest.py", folder / "bench")
    for name in ("test_scaling.py", "test_other.py"):  # the first is part of the quick form
        (folder / "bench" / name).write_text(SUITE)
    return folder


def test_the_quick_form_leaves_the_rest_out(folder: Path) -> None:
    assert len(collected(folder)) == 8
    assert {test.partition("::")[0] for test in collected(folder, "--quick")} == {"test_scaling.py"}


def test_models_are_those_of_cases_and_of_markers(folder: Path) -> None:
    chosen = collected(folder, "--quick", "--models=*vgg16")
    assert chosen == [
        "test_scaling.py::test_by_cases[abn_vgg16, batch 1, inference, fp32, NCHW]",
        "test_scaling.py::test_by_marker",
    ]
    assert len(collected(folder, "--quick", "--models=abn_resnet18", "--models=abn_resnet50")) == 2
