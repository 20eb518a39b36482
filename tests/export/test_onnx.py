from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from abn_fast import AbnFastError, create_model
from abn_fast.export import export_onnx


@pytest.mark.parametrize("name", ["abn_cifar_resnet8", "abn_densenet_bc16_6", "cifar_resnet8"])
def test_the_file_returns_what_the_model_returns_at_any_size(name: str, tmp_path: Path) -> None:
    model = create_model(name, num_classes=7).eval()
    path = tmp_path / "model.onnx"
    differences = export_onnx(model, path, (32, 32))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == (["logits", "attention"] if name.startswith("abn_") else ["logits"]) == list(differences)
    images = torch.randn(5, 3, 44, 36)
    with torch.no_grad():
        expected = model(images)
    served = dict(zip(outputs, session.run(None, {"images": images.numpy()}), strict=True))
    logits = expected if isinstance(expected, torch.Tensor) else expected.logits
    np.testing.assert_allclose(served["logits"], logits.numpy(), rtol=1e-3, atol=1e-5)
    if not isinstance(expected, torch.Tensor):
        np.testing.assert_allclose(served["attention"], expected.attention.numpy(), rtol=1e-3, atol=1e-5)


def test_the_branch_that_nobody_asks_for_is_not_in_the_file(tmp_path: Path) -> None:
    model = create_model("abn_cifar_resnet8", num_classes=11)
    export_onnx(model, tmp_path / "model.onnx", (32, 32))
    shapes = [tuple(weight.dims) for weight in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert (11, 64, 1, 1) in shapes
    assert (11, 11) not in shapes
    assert (11, 11, 1, 1) not in shapes


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = create_model("abn_cifar_resnet8").double().train()
    export_onnx(model, tmp_path / "model.onnx", (32, 32))
    assert model.training
    assert next(model.parameters()).dtype == torch.float64


def test_a_file_that_differs_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = onnxruntime.InferenceSession.run

    def wrong(self: Any, *arguments: Any) -> list[Any]:
        logits, attention = run(self, *arguments)
        return [logits, attention + 0.01]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", wrong)
    with pytest.raises(AbnFastError, match="the ONNX file's attention differ"):
        export_onnx(create_model("abn_cifar_resnet8"), tmp_path / "model.onnx", (32, 32))
    assert not list(tmp_path.iterdir())
