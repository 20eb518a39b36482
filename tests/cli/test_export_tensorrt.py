"""`abn-fast export --format tensorrt-rtx` and `abn-fast verify` of what it wrote."""

import sys
from pathlib import Path

import pytest

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from tests.cli.conftest import Run

pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")

WANTED = ("--format", "tensorrt-rtx", "--precision", "fp16", "--batch", "2", "--size", "16")


def test_an_engine_is_built_and_verified(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(create_model("abn_cifar_resnet8"), checkpoint, preprocessing=preprocessing)
    exported = run("export", checkpoint, *WANTED, "--targets", "sm_86, sm_120")
    assert exported.code == 0, exported.err
    assert "built for sm_86, sm_120 and not run" in exported.out
    assert exported.out.rstrip().endswith("passed")
    verified = run("verify", tmp_path / "model.engine", "--against", checkpoint)
    assert verified.code == 0, verified.err
    assert verified.out == exported.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--targets", "sm_86"), "targets='sm_86': a file of format onnx is built for no card"),
        ((*WANTED, "--targets", "sm_90"), "target 'sm_90'; TensorRT-RTX builds for sm_75"),
        ((*WANTED, "--out", "model.plan"), "a file of format tensorrt-rtx is called NAME.engine"),
        (("--format", "tensorrt"), "needs 'tensorrt', which is not installed: pip install 'abn-fast[tensorrt]'"),
    ],
)
def test_bad_options_are_told_in_one_line(
    run: Run, options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    checkpoint = tmp_path / "model.safetensors"
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(create_model("abn_cifar_resnet8"), checkpoint, preprocessing=preprocessing)
    refused = run("export", checkpoint, *options)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors"}
