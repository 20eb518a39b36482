"""ONNX files: what is in them, and what never becomes one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from abn_fast import AbnFastError
from abn_fast.export import BatchRange, Metadata, ProofFailedError, SizeRange, export_onnx
from tests.export._networks import outputs_of, relative_error, small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported

FIXED = {"size": SizeRange.fixed((20, 26)), "batch": BatchRange(2, 2, 2)}


def run(path: Path, images: torch.Tensor) -> dict[str, torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {
        name: torch.from_numpy(x) for name, x in zip(names, session.run(None, {"images": images.numpy()}), strict=True)
    }


def test_the_file_returns_what_the_model_returns_at_any_batch_and_size(exported: Exported) -> None:
    images = torch.randn(6, 3, 44, 36)
    served, expected = run(exported.file, images), outputs_of(exported.model, images)
    assert list(served) == ["logits", "attention"]
    assert all(relative_error(served[name], expected[name]) < 1e-5 for name in served)


def test_the_file_states_what_it_is(exported: Exported) -> None:
    properties = {each.key: each.value for each in onnx.load(exported.file).metadata_props}
    metadata = Metadata.from_json(properties["abn_fast"])
    assert metadata.model == "abn_cifar_resnet8"
    assert metadata.arguments == {"num_classes": 3, "width": 4, "gate": "residual"}
    assert metadata.classes == tuple(CLASSES)
    assert metadata.preprocessing == PREPROCESSING
    assert metadata.outputs == ("logits", "attention")
    assert str(metadata.size) == "10x13:20x26:40x52"
    assert metadata.versions["torch"] == torch.__version__
    assert metadata.versions["opset"] == "20"
    assert json.loads(properties["classes"]) == CLASSES
    assert json.loads(properties["mean"]) == [0.4, 0.5, 0.6]


def test_the_file_names_no_place_of_the_machine_that_wrote_it(exported: Exported) -> None:
    content = exported.file.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_parts_that_no_output_needs_and_norms_are_not_in_the_file(exported: Exported) -> None:
    graph = onnx.load(exported.file).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    shapes = [tuple(weight.dims) for weight in graph.initializer]
    assert (3, 16, 1, 1) in shapes
    assert (3, 3) not in shapes


def test_the_proof_stands_beside_the_file(exported: Exported) -> None:
    assert {path.name for path in exported.file.parent.iterdir()} == {
        "model.safetensors",
        "model.onnx",
        "model.onnx.proof.json",
    }
    proof = json.loads((exported.file.parent / "model.onnx.proof.json").read_text())
    assert proof["passed"] is True
    assert proof["provider"] == "CPUExecutionProvider"
    assert proof["summary"]["nodes"] == len(onnx.load(exported.file).graph.node)
    assert proof["summary"]["bytes"] == exported.file.stat().st_size
    rows = {(row["images"], row["batch"], row["size"], row["output"]) for row in proof["comparisons"]}
    assert rows == {
        (images, batch, size, output)
        for images in ("photographs", "noise")
        for batch in (1, 2, 5)
        for size in ("20x26", "10x26")
        for output in ("logits", "attention")
    }


def test_outputs_may_be_any_in_any_order(tmp_path: Path) -> None:
    model, images = small("abn-cifar_resnet8")
    names = ["attention_upsampled", "class_evidence", "probabilities", "attention_logits"]
    export_onnx(model, tmp_path / "model.onnx", outputs=names, **FIXED)  # type: ignore[arg-type]
    served, expected = run(tmp_path / "model.onnx", images[:, :, :20, :26]), outputs_of(model, images[:, :, :20, :26])
    assert list(served) == names
    torch.testing.assert_close(served["probabilities"], expected["logits"].softmax(1))
    upsampled = F.interpolate(expected["attention"], (20, 26), mode="bilinear")
    torch.testing.assert_close(served["attention_upsampled"], upsampled, rtol=1e-4, atol=1e-5)
    assert relative_error(served["attention_logits"], expected["attention_logits"]) < 1e-5
    assert served["class_evidence"].shape == (2, 3, 10, 13)


@pytest.mark.parametrize(("kind", "precision"), [("abn-product", "fp32"), ("abn-cifar_resnet8", "fp16")])
def test_the_gate_as_a_function_runs_without_a_plugin(kind: str, precision: str, tmp_path: Path) -> None:
    model, images = small(kind)
    images = images[:, :, :20, :26]
    export_onnx(model, tmp_path / "model.onnx", gate="function", precision=precision, **FIXED)  # type: ignore[arg-type]
    file = onnx.load(tmp_path / "model.onnx")
    (node,) = (node for node in file.graph.node if node.domain == "abn_fast")
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert attributes["gate"] == (b"product" if kind == "abn-product" else b"residual")
    assert attributes["plugin_namespace"] == b"abn_fast"
    assert [function.name for function in file.functions] == ["attention_gate"]
    served, expected = run(tmp_path / "model.onnx", images), outputs_of(model, images)
    assert relative_error(served["logits"], expected["logits"]) < (1e-5 if precision == "fp32" else 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gate_as_a_function_serves_all_tasks(precision: str, tmp_path: Path) -> None:
    model, images = small("tasks-resnet")
    size = SizeRange.around((70, 76))
    proof = export_onnx(model, tmp_path / "model.onnx", gate="function", precision=precision, size=size)
    assert proof.passed
    assert run(tmp_path / "model.onnx", images)["logits"].shape == (2, 3, 2)


def test_16_bit_files_hold_16_bit_weights(tmp_path: Path) -> None:
    model, _ = small("plain-cifar_resnet8")
    half = export_onnx(model, tmp_path / "half.onnx", precision="fp16", **FIXED)  # type: ignore[arg-type]
    brain = export_onnx(model, tmp_path / "brain.onnx", precision="bf16", **FIXED)  # type: ignore[arg-type]
    for path, kind in (("half.onnx", onnx.TensorProto.FLOAT16), ("brain.onnx", onnx.TensorProto.BFLOAT16)):
        graph = onnx.load(tmp_path / path).graph
        assert {weight.data_type for weight in graph.initializer if len(weight.dims) == 4} == {kind}
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert half.runtime == brain.runtime == "onnxruntime"
    assert not half.notes
    assert "in float32 products" in brain.notes[0]


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = small("abn-cifar_resnet8")[0].double().train()
    export_onnx(model, tmp_path / "model.onnx", **FIXED)  # type: ignore[arg-type]
    assert model.training
    assert next(model.parameters()).dtype == torch.float64


def test_a_file_that_differs_is_kept_as_rejected_and_what_stood_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = torch.onnx.export

    def wrong(*arguments: Any, **options: Any) -> Any:
        program: Any = export(*arguments, **options)
        for node in program.model.graph:
            if node.op_type == "Sigmoid":
                node.op_type = "HardSigmoid"
        return program

    model, _ = small("abn-cifar_resnet8")
    path = tmp_path / "model.onnx"
    path.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", wrong)
        with pytest.raises(ProofFailedError, match=r"model.onnx is not the network it came from: .*attention differ"):
            export_onnx(model, path, **FIXED)  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert {each.name for each in tmp_path.iterdir()} == {
        "model.onnx",
        "model.onnx.rejected",
        "model.onnx.rejected.proof.json",
    }
    assert json.loads((tmp_path / "model.onnx.rejected.proof.json").read_text())["passed"] is False
    export_onnx(model, path, **FIXED)  # type: ignore[arg-type]
    assert {each.name for each in tmp_path.iterdir()} == {"model.onnx", "model.onnx.proof.json"}


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("abn-cifar_resnet8", {"precision": "fp8"}, "precision='fp8' is of GPUs from sm_89 on: take int8 for CPUs"),
        ("abn-cifar_resnet8", {"outputs": ["map"]}, "no output 'map'; it has logits, attention"),
        ("plain-cifar_resnet8", {"outputs": ["attention_upsampled"]}, "Classifier has no output"),
        ("abn-cifar_resnet8", {"gate": "plugin"}, "gate='plugin'; expected one of 'standard', 'function'"),
        ("abn-se_resnet-basic", {"gate": "function"}, "its map is no sigmoid"),
        ("plain-cifar_resnet8", {"gate": "function"}, "it has no gate"),
        ("abn-densenet_bc10_4", {"size": SizeRange.fixed((2, 2))}, "does not take images of 2x2 pixels"),
        ("abn-cifar_resnet8", {"classes": ["one"]}, "1 class names for a model of 3"),
        ("abn-grey", {"preprocessing": PREPROCESSING}, "preprocessing of 3 channels for a model of 1"),
        ("abn-cifar_resnet8", {"images": "nowhere"}, "images 'nowhere': no such folder"),
    ],
)
def test_bad_arguments_are_told_in_one_line_and_write_nothing(
    kind: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model, _ = small(kind)
    with pytest.raises(AbnFastError, match=message) as error:
        export_onnx(model, tmp_path / "model.onnx", **FIXED | arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_grey_images_and_networks_without_a_name_export_too(tmp_path: Path) -> None:
    model, _ = small("abn-grey")
    model.config = None
    export_onnx(model, tmp_path / "model.onnx", **FIXED)  # type: ignore[arg-type]
    images = np.random.default_rng(0).standard_normal((2, 1, 20, 26), dtype=np.float32)
    assert run(tmp_path / "model.onnx", torch.from_numpy(images))["logits"].shape == (2, 3)
