"""`abn-fast export` and `abn-fast verify`."""

import json
from pathlib import Path

import pytest

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export import InferenceSession
from abn_fast.export.proof.proof import TOLERANCES
from tests.cli.conftest import Run
from tests.export._trained import CLASSES, SEEN, save_pictures, trained

SMALL = ("--size", "16", "--batch", "2")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(create_model("abn_cifar_resnet8"), path, preprocessing=preprocessing)
    return path


def test_a_checkpoint_is_exported_and_verified(run: Run, checkpoint: Path) -> None:
    exported = run("export", checkpoint, *SMALL, "--precision", "fp16", "--outputs", "probabilities, attention")
    assert exported.code == 0, exported.err
    assert "model.onnx: fp16 by onnxruntime (CPUExecutionProvider)" in exported.out
    assert exported.out.rstrip().endswith("passed")
    assert InferenceSession(checkpoint.with_suffix(".onnx")).metadata.outputs == ("probabilities", "attention")
    verified = run("verify", checkpoint.with_suffix(".onnx"), "--against", checkpoint)
    assert verified.code == 0, verified.err
    assert verified.out == exported.out


def test_a_file_of_another_network_fails_to_verify(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("export", checkpoint, *SMALL, "--out", "files/first.onnx").code == 0
    other = tmp_path / "other.safetensors"
    save_checkpoint(create_model("abn_cifar_resnet8"), other)
    verified = run("verify", "files/first.onnx", "--against", other)
    assert verified.code == 2
    assert "FAILED" in verified.out
    assert "is not the network it came from" in verified.err
    assert json.loads(Path("files/first.onnx.proof.json").read_text())["passed"] is False


def test_a_file_that_fails_its_proof_is_rejected(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCES, "fp32", 0.0)
    exported = run("export", checkpoint, *SMALL)
    assert exported.code == 2
    assert "FAILED" in exported.out
    assert exported.err.count("\n") == 1
    assert not checkpoint.with_suffix(".onnx").exists()
    assert Path(f"{checkpoint.with_suffix('.onnx')}.rejected").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "tflite"), "format='tflite'; expected one of 'onnx'"),
        (("--precision", "fp8"), "precision='fp8' is of GPUs from sm_89 on: take int8 for CPUs"),
        (("--precision", "half"), "precision='half'; expected one of 'fp32'"),
        (("--outputs", "logits,map"), "no output 'map'"),
        (("--batch", "8:1"), "batch '8:1': expected N or LOWEST:BEST:HIGHEST"),
        (("--size", "big"), "size 'big': expected SIDE"),
        (("--images", "nowhere"), "images 'nowhere': no such folder"),
    ],
)
def test_bad_options_are_told_in_one_line(run: Run, checkpoint: Path, options: tuple[str, str], message: str) -> None:
    refused = run("export", checkpoint, *SMALL, *options)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not list(checkpoint.parent.glob("*.onnx*"))


def test_without_preprocessing_the_size_is_asked_for(run: Run, tmp_path: Path) -> None:
    save_checkpoint(create_model("abn_cifar_resnet8"), tmp_path / "bare.safetensors")
    refused = run("export", tmp_path / "bare.safetensors")
    assert refused.code == 2
    assert "give --size" in refused.err


def test_int8_is_calibrated_on_a_folder(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(trained(), path, preprocessing=SEEN, classes=CLASSES)
    calibration, others = (
        save_pictures(tmp_path / name, range(200 + start, 216 + start)) for name, start in (("a", 0), ("b", 50))
    )
    options = ("--precision", "int8", "--size", "24x28", "--batch", "4", "--images", others)
    exported = run("export", path, *options, "--calibration", calibration, "--keep-float", "first, map")
    assert exported.code == 0, exported.err
    assert (
        "note: int8 for cpu, calibrated on 16 images at 24x28; the first convolution, the convolutions from"
        in exported.out
    )
    assert InferenceSession(path.with_suffix(".onnx")).metadata.precision == "int8"
    for given, message in (
        ((), "precision='int8' is calibrated on images: give a folder of them (--calibration FOLDER)"),
        (("--calibration", others), "images are both calibrated and proved on"),
        (("--calibration", calibration, "--keep-float", "head"), "keep_float='head'; expected one of 'first'"),
        (("--calibration", calibration, "--quantize-for", "gpu"), "quantize_for='gpu'; expected one of 'cpu'"),
        (("--keep-float", "map"), "keep_float='map' is of int8: give a folder to calibrate on"),
    ):
        refused = run("export", path, *options, *given, "--out", "other.onnx")
        assert refused.code == 2
        assert message in refused.err
        assert refused.err.count("\n") == 1
        assert not Path("other.onnx").exists()


def test_a_file_that_the_server_does_not_read_is_refused_before_it_is_made(run: Run, checkpoint: Path) -> None:
    refused = run("export", checkpoint, *SMALL, "--format", "openvino", "--server", "repository")
    assert refused.code == 2
    assert "model.xml: the Triton Inference Server reads .onnx and .plan files" in refused.err
    assert not checkpoint.with_suffix(".xml").exists()


def test_a_file_is_put_into_a_model_repository(run: Run, checkpoint: Path) -> None:
    done = run("export", checkpoint, "--size", "16", "--batch", "1:2:4", "--server", "repository")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith("model repository: repository/abn_cifar_resnet8")
