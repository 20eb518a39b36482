"""One trained checkpoint as every kind of file that can be written without a GPU, each proved and verified again."""

from pathlib import Path

import pytest

from abn_fast import save_checkpoint
from tests.cli.conftest import Run
from tests.export._trained import CLASSES, SEEN, save_pictures, trained

MODULES = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt-rtx": "tensorrt_rtx"}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt-rtx": ".engine"}
SIZES = ("--size", "24x28", "--batch", "1:2:4")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("format_name", MODULES)
def test_a_trained_checkpoint_becomes_every_file(run: Run, format_name: str, precision: str, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[format_name], reason=f"{format_name} is not installed")
    save_checkpoint(trained(), tmp_path / "model.safetensors", preprocessing=SEEN, classes=CLASSES)
    photographs = ("--images", save_pictures(tmp_path / "photographs", range(300, 332)))
    options: tuple[object, ...] = ("--format", format_name, "--precision", precision, *SIZES)
    if precision == "int8":
        options += ("--calibration", save_pictures(tmp_path / "calibration", range(200, 232)))
    if format_name == "onnx":
        options += ("--server", "repository")
    exported = run("export", "model.safetensors", *options, *photographs)
    print(exported.out)
    assert exported.code == 0, exported.err
    assert f": {precision} by " in exported.out
    file = Path("model").with_suffix(SUFFIXES[format_name])
    assert file.with_name(f"{file.name}.proof.json").is_file()
    assert not list(Path().glob("*.rejected"))
    assert len(list(Path().glob("repository/*/config.pbtxt"))) == (format_name == "onnx")
    verified = run("verify", file, "--against", "model.safetensors", *photographs)
    assert verified.code == 0, verified.err
    assert verified.out.rstrip().endswith("passed")
