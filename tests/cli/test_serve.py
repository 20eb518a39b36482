"""`abn-fast serve`, `load-test` and `describe`, and `export --server`."""

import json
import socket
import sys
from pathlib import Path

import pytest

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export import Metadata
from tests.cli.conftest import Run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3, crop_pct=0.875)
    model = create_model("abn_cifar_resnet8", num_classes=2)
    save_checkpoint(model, path, preprocessing=preprocessing, classes=["cat", "dog"])
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("missing.onnx",), "missing.onnx: no such file"),
        (("model.safetensors", "--runtime", "tflite"), "runtime='tflite'; expected one of"),
        (("model.safetensors", "--max-wait", "-1"), "max_wait=-1.0; expected a finite number of at least 0"),
        (("model.safetensors", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1:8000"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    run: Run, checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    refused = run("serve", *options)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1


def test_a_port_in_use_is_told(run: Run, checkpoint: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = run("serve", checkpoint, "--port", other.getsockname()[1])
    assert refused.code == 2
    assert "Address already in use" in refused.err


def test_missing_packages_name_the_extra(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'abn-fast[serve]'" in run("serve", checkpoint).err
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert "pip install 'abn-fast[serve]'" in run("load-test", "http://127.0.0.1:1").err


def test_a_load_test_without_server_is_told(run: Run) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = run("load-test", f"http://127.0.0.1:{closed.getsockname()[1]}", "--seconds", "1")
    assert refused.code == 2
    assert "no server of abn-fast serve" in refused.err
    assert "images 'nowhere': no such folder" in run("load-test", "http://x", "--images", "nowhere").err


def test_a_file_is_described_and_put_into_a_model_repository(run: Run, checkpoint: Path) -> None:
    options = ("--size", "12:16:24x20", "--batch", "1:2:3", "--server", "repository")
    exported = run("export", checkpoint, *options)
    assert exported.code == 0, exported.err
    assert exported.out.splitlines()[-1] == "model repository: repository/abn_cifar_resnet8"
    assert Path("repository/abn_cifar_resnet8/1/model.onnx").read_bytes() == Path("model.onnx").read_bytes()

    described = run("describe", "model.onnx")
    assert described.code == 0, described.err
    for line in (
        "model      abn_cifar_resnet8",
        "input      images float32 [batch, 3, height, width]",
        "classes    2: cat, dog",
        "pictures   RGB, resized (bilinear) until they cover 16x16 / 0.875, centre 16x16 cut out",
        "values     (pixel / 255 - mean) / std, mean [0.5, 0.5, 0.5], std [0.25, 0.25, 0.25]",
        "TensorRT   trtexec --onnx=model.onnx --saveEngine=model.plan --minShapes=images:1x3x12x12 "
        "--optShapes=images:2x3x16x16 --maxShapes=images:3x3x24x20",
    ):
        assert f"  {line}\n" in described.out
    assert Metadata.from_json(run("describe", "model.onnx", "--json").out).classes == ("cat", "dog")
    assert json.loads(run("describe", checkpoint, "--json").out)["num_classes"] == 2
    assert "outputs    logits, attention" in run("describe", checkpoint).out


def test_a_file_of_fixed_shapes_needs_no_shapes_in_trtexec(run: Run, checkpoint: Path) -> None:
    assert run("export", checkpoint, "--size", "16", "--batch", "2").code == 0
    assert run("describe", "model.onnx").out.endswith("trtexec --onnx=model.onnx --saveEngine=model.plan\n")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"", "no file of abn_fast's"), (b"\x00" * 9, "no ONNX file")]
)
def test_what_cannot_be_described_is_told_in_one_line(
    run: Run, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    refused = run("describe", "model.onnx")
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
