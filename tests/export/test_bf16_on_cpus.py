"""bf16 ONNX files where onnxruntime has no kernels for them."""

from pathlib import Path

import pytest

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.export import InferenceSession, SizeRange, verify
from abn_fast.export.onnx.prepare import prepare_program
from tests.export._networks import small


def test_a_bf16_file_is_not_called_damaged(tmp_path: Path) -> None:
    model, _ = small("abn-cifar_resnet8")
    checkpoint, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    save_checkpoint(model, checkpoint)
    prepare_program(model, size=SizeRange.fixed((20, 26)), precision="bf16").write(path)
    message = "is sound, but onnxruntime cannot compute it here, as bf16 convolutions on a CPU: run it on a GPU"
    with pytest.raises(AbnFastError, match=message) as error:
        verify(path, checkpoint, device="cpu")
    assert "\n" not in str(error.value)
    with pytest.raises(AbnFastError, match=message):
        InferenceSession(path, device="cpu")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AbnFastError, match="truncated, damaged or no ONNX file"):
        InferenceSession(path, device="cpu")
