"""bf16 ONNX files where onnxruntime has no kernels for them."""

from pathlib import Path

import onnx
import pytest

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.export import InferenceSession, SizeRange, export_onnx, verify
from abn_fast.export.onnx.prepare import prepare_program
from tests.export._networks import small

SIZE = SizeRange.fixed((20, 26))


def test_a_bf16_file_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    prepare_program(small("abn-cifar_resnet8")[0], size=SIZE, precision="bf16").write(path)
    message = "is sound, but onnxruntime cannot compute it here, as bf16 convolutions on a CPU: run it on a GPU"
    with pytest.raises(AbnFastError, match=message) as error:
        InferenceSession(path, device="cpu")
    assert "\n" not in str(error.value)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AbnFastError, match="truncated, damaged or no ONNX file"):
        InferenceSession(path, device="cpu")


@pytest.mark.parametrize("gate", ["standard", "function", "editable"])
def test_its_own_graph_and_weights_are_proved_in_float32(gate: str, tmp_path: Path) -> None:
    model, _ = small("abn-cifar_resnet8")
    checkpoint, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    save_checkpoint(model, checkpoint)
    proof = export_onnx(model, path, size=SIZE, precision="bf16", gate=gate)
    assert "in float32 products" in proof.notes[0]
    assert proof.runtime == "onnxruntime"
    assert verify(path, checkpoint, device="cpu").passed
    file = onnx.load(path)
    weight = max(file.graph.initializer, key=lambda each: len(each.raw_data))
    weight.raw_data = weight.raw_data[2:] + weight.raw_data[:2]
    onnx.save(file, path)
    assert not verify(path, checkpoint, device="cpu").passed
