import subprocess
import sys
from importlib.metadata import version

import pytest

from abn_fast import AbnFastError
from abn_fast.cli import main
from tests.cli.conftest import Run


def test_the_version_is_the_package_s(run: Run) -> None:
    assert run("--version").out.strip() == f"abn-fast, version {version('abn-fast')}"


def test_python_m_equals_the_command() -> None:
    module = subprocess.run([sys.executable, "-m", "abn_fast", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout.startswith("Usage: abn-fast ")
    for command in ("train", "evaluate", "explain", "export", "models", "quickstart"):
        assert f"\n  {command} " in module.stdout


def test_an_error_is_one_line_and_the_code_is_not_0(run: Run) -> None:
    outcome = run("evaluate", "nothing.safetensors")
    assert outcome.code == 2
    assert outcome.err == "abn-fast: nothing.safetensors: no such file\n"
    assert outcome.out == ""


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(AbnFastError, match="no such file"):
        main(["--debug", "evaluate", "nothing.safetensors"])


def test_an_unexpected_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("abn_fast.models.list_models", broken)
    outcome = run("models")
    assert outcome.code == 1
    assert outcome.err == "abn-fast: unexpected RuntimeError: first line (abn-fast --debug ... shows where)\n"


def test_models_lists_names_that_match(run: Run) -> None:
    outcome = run("models", "abn_*resnet20")
    assert outcome.code == 0
    assert " ".join(outcome.out.split()) == "abn_cifar_resnet20 0.48 M parameters 10 classes by default"


def test_models_says_when_nothing_matches(run: Run) -> None:
    outcome = run("models", "vit")
    assert outcome.code == 2
    assert "no model matches 'vit'" in outcome.err
