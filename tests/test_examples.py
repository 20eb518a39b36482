"""The scripts in examples/, as a user starts them, at small sizes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests._documents import ROOT, environment, furnish

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.slow


def example(folder: Path, name: str, *arguments: str | int) -> str:
    """What an example prints, started in a folder; the example must succeed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_has_a_test() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == set(re.findall(r'example\(tmp_path, "([\w.]+)"', Path(__file__).read_text()))


def test_own_data_makes_a_folder(tmp_path: Path) -> None:
    printed = example(tmp_path, "own_data.py", "--model", "abn_cifar_resnet8", "--epochs", 1, "--image-size", 32)
    assert "'top1':" in printed
    assert len(list((tmp_path / "runs" / "own_data" / "pictures").glob("*-overlay.png"))) == 4
    assert len(list((tmp_path / "runs" / "own_data" / "shapes" / "train" / "disc").iterdir())) > 20


def test_own_data_takes_a_folder(tmp_path: Path) -> None:
    furnish(tmp_path)
    small = ("--model", "abn_cifar_resnet8", "--epochs", 1, "--image-size", 32, "--out", "runs/mine")
    example(tmp_path, "own_data.py", "photos", *small)
    assert (tmp_path / "runs" / "mine" / "last.safetensors").is_file()
    assert not (tmp_path / "runs" / "mine" / "shapes").exists()


def test_a_timm_backbone_stays_timms_network_and_is_kept(tmp_path: Path) -> None:
    for module in ("timm", "sklearn"):
        pytest.importorskip(module, reason=f"timm_backbone.py needs {module}")
    printed = example(tmp_path, "timm_backbone.py", "--images", 64, "--epochs", 1)
    assert "it is still timm's network: True" in printed
    assert "the checkpoint holds the same network: True" in printed


def test_multi_task_answers_each_question_with_a_map(tmp_path: Path) -> None:
    printed = example(tmp_path, "multi_task.py", "--images", 64, "--epochs", 1)
    for question in ("round", "red", "large"):
        assert f"'accuracy.{question}':" in printed
        assert f"{question}? " in printed
        assert (tmp_path / "runs" / "multi_task" / f"{question}.png").is_file()


def test_export_and_serve_answer_a_request(tmp_path: Path) -> None:
    for module in ("onnxruntime", "onnxscript", "fastapi", "uvicorn"):
        pytest.importorskip(module, reason=f"export_and_serve.py needs {module}")
    furnish(tmp_path)
    printed = example(tmp_path, "export_and_serve.py", "runs/demo/abn/last.safetensors", "photo.jpg")
    assert "'probability':" in printed
    assert (tmp_path / "runs" / "model.onnx").is_file()
