"""`abn-fast demo`: what is refused before a page is served; `tests/demo` opens it."""

import sys
from pathlib import Path

import pytest

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from tests.cli.conftest import Run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(
        create_model("abn_cifar_resnet8"), path, preprocessing=Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3)
    )
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("missing.onnx",), "missing.onnx: no such file"),
        (("model.safetensors", "--images", "nowhere"), "images 'nowhere': no such folder"),
        (("model.safetensors", "--max-bytes", "0"), "max_bytes=0; expected a finite number of at least 1"),
        (("model.safetensors", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1:8080"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    run: Run, checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(module, reason="the extra serve is not installed")
    refused = run("demo", *options)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1


def test_missing_packages_name_the_extra(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'abn-fast[serve]'" in run("demo", checkpoint).err
