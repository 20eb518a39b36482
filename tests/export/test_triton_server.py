"""Model repositories, read back with the server's own schema."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from abn_fast import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, Metadata, SizeRange, export_onnx
from abn_fast.export.checksum import sha256
from abn_fast.export.onnx.tensors import onnx_contents
from abn_fast.export.tensorrt.sidecar import Sidecar, onnx_path
from abn_fast.export.triton_server import write_model_repository
from abn_fast.export.triton_server.model_config import model_config
from tests.export._networks import small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported

schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
text_format = pytest.importorskip("google.protobuf.text_format", reason="protobuf is not installed")

AWKWARD = ['a "quoted" dog', "back\\slash", "two\nlines", "büffel 水牛", "tab\there"]


def read(folder: Path) -> Any:
    """The configuration of a model's folder."""
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), schema.ModelConfig())


def test_a_repository_states_what_the_file_is(exported: Exported, tmp_path: Path) -> None:
    folder = write_model_repository(exported.file, tmp_path)
    assert folder == tmp_path / "abn_cifar_resnet8"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
        "labels.txt",
    ]
    assert (folder / "1" / "model.onnx").read_bytes() == exported.file.read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == CLASSES
    config = read(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("abn_cifar_resnet8", "onnxruntime", 5)
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 5]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    [group] = config.instance_group
    assert (group.count, group.kind) == (1, schema.ModelInstanceGroup.KIND_AUTO)
    assert config.parameters["mean"].string_value == "0.4,0.5,0.6"
    assert config.parameters["std"].string_value == "0.2,0.25,0.3"
    assert config.parameters["image_size"].string_value == "20x26"
    assert Metadata.from_json(config.parameters["abn_fast"].string_value).preprocessing == PREPROCESSING


def test_tensors_are_those_that_the_runtime_sees(exported: Exported, tmp_path: Path) -> None:
    config = read(write_model_repository(exported.file, tmp_path))
    session = onnxruntime.InferenceSession(exported.file, providers=["CPUExecutionProvider"])
    images = np.zeros((3, 3, 22, 28), np.float32)
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"images": images}), strict=True))
    for tensors, arrays in ((config.input, {"images": images}), (config.output, outputs)):
        assert [tensor.name for tensor in tensors] == list(arrays)
        for tensor in tensors:
            array = arrays[tensor.name]
            assert tensor.data_type == schema.TYPE_FP32
            assert len(tensor.dims) == array.ndim - 1
            for dim, side in zip(tensor.dims, array.shape[1:], strict=True):
                assert dim in (-1, side)
    assert {output.name: output.label_filename for output in config.output} == {
        "logits": "labels.txt",
        "attention": "",
    }
    assert list(config.input[0].dims) == [3, -1, -1]


def test_a_file_of_a_fixed_batch_is_not_batched(tmp_path: Path) -> None:
    model, _ = small("plain-cifar_resnet8")
    export_onnx(model, tmp_path / "fixed.onnx", size=SizeRange.fixed((20, 26)), batch=BatchRange(2, 2, 2))
    config = read(write_model_repository(tmp_path / "fixed.onnx", tmp_path / "models", name="mine", instances=2))
    assert (config.name, config.max_batch_size, config.instance_group[0].count) == ("mine", 0, 2)
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [2, 3, 20, 26]
    assert list(config.output[0].dims) == [2, 3]


def test_any_class_name_survives(exported: Exported) -> None:
    contents = onnx_contents(exported.file)
    preprocessing = Preprocessing((4, 6), (0.1,), (1 / 3,), crop_pct=0.9)
    metadata = Metadata(("logits",), "fp32", BatchRange(), SizeRange.fixed((4, 6)), 1, 5, classes=tuple(AWKWARD))
    metadata = Metadata.from_json(metadata.to_json())
    object.__setattr__(metadata, "preprocessing", preprocessing)
    text = model_config("m", "onnxruntime", contents.inputs, contents.outputs, metadata)
    config = text_format.Parse(text, schema.ModelConfig())
    assert Metadata.from_json(config.parameters["abn_fast"].string_value).classes == tuple(AWKWARD)
    assert float(config.parameters["std"].string_value) == 1 / 3
    assert config.parameters["channels"].string_value == "grey"


def test_labels_stand_a_line_each(tmp_path: Path) -> None:
    model, _ = small("abn-cifar_resnet8", classes=5)
    export_onnx(model, tmp_path / "m.onnx", size=SizeRange.fixed((20, 26)), batch=BatchRange(1, 2, 2), classes=AWKWARD)
    folder = write_model_repository(tmp_path / "m.onnx", tmp_path / "models")
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")
    assert labels == ['a "quoted" dog', "back\\slash", "two lines", "büffel 水牛", "tab here", ""]


def test_tasks_have_no_labels_of_classes(tmp_path: Path) -> None:
    model, _ = small("tasks-cifar_resnet")
    export_onnx(model, tmp_path / "m.onnx", size=SizeRange.fixed((20, 26)), batch=BatchRange(1, 2, 2), classes=CLASSES)
    config = read(write_model_repository(tmp_path / "m.onnx", tmp_path / "models"))
    assert [(output.name, list(output.dims), output.label_filename) for output in config.output] == [
        ("logits", [3, 2], ""),
        ("attention", [3, 10, 13], ""),
    ]


def test_an_engine_beside_its_onnx_file_gets_a_tensorrt_model(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(exported.file.read_bytes())
    (tmp_path / "model.plan").write_bytes(b"an engine")
    folder = write_model_repository(tmp_path / "model.plan", tmp_path / "models")
    config = read(folder)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert (folder / "1" / "model.plan").read_bytes() == b"an engine"
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(AbnFastError, match=r"the ONNX file that it was built from is not beside it, as model\.onnx"):
        write_model_repository(tmp_path / "model.plan", tmp_path / "models")


def test_an_engine_that_is_not_the_one_of_its_sidecar_is_refused(exported: Exported, tmp_path: Path) -> None:
    engine = tmp_path / "model.plan"
    engine.write_bytes(b"an engine")
    onnx_path(engine).write_bytes(exported.file.read_bytes())
    metadata = replace(onnx_contents(exported.file).metadata, batch=BatchRange(1, 2, 3))
    Sidecar("tensorrt", "11.0", ("sm_86",), sha256(engine), sha256(exported.file), metadata).write(engine)
    config = read(write_model_repository(engine, tmp_path / "models"))
    assert (config.backend, config.max_batch_size) == ("tensorrt", 3)
    engine.write_bytes(b"another engine")
    with pytest.raises(AbnFastError, match="is not the engine that its sidecar describes"):
        write_model_repository(engine, tmp_path / "others")
    assert not (tmp_path / "others").exists()


def test_a_model_is_replaced_as_a_whole(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model_repository(exported.file, tmp_path)
    (folder / "2").mkdir()
    write_model_repository(exported.file, tmp_path, instances=3)
    assert not (folder / "2").exists()
    assert read(folder).instance_group[0].count == 3

    rename, calls = Path.rename, []

    def failing(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:  # the old one has moved away
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(AbnFastError, match=r"abn_cifar_resnet8 cannot be written: No space left on device"):
        write_model_repository(exported.file, tmp_path)
    assert read(folder).instance_group[0].count == 3
    assert [path.name for path in tmp_path.iterdir()] == ["abn_cifar_resnet8"]


def test_what_makes_no_repository_is_told_in_one_line(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"the Triton Inference Server reads \.onnx and \.plan files"):
        write_model_repository(exported.checkpoint, tmp_path)
    with pytest.raises(AbnFastError, match=r"m\.onnx: no such file"):
        write_model_repository(tmp_path / "m.onnx", tmp_path)
    with pytest.raises(AbnFastError, match="name='a/b'; expected letters"):
        write_model_repository(exported.file, tmp_path, name="a/b")
    with pytest.raises(AbnFastError, match="instances=0; expected at least 1"):
        write_model_repository(exported.file, tmp_path, instances=0)
    (tmp_path / "photographs").mkdir()
    with pytest.raises(AbnFastError, match="photographs is there already and is no model's folder"):
        write_model_repository(exported.file, tmp_path, name="photographs")
    file = tmp_path / "low.onnx"
    model = onnx.load(exported.file)
    for entry in (entry for entry in model.metadata_props if entry.key == "abn_fast"):
        entry.value = json.dumps(json.loads(entry.value) | {"batch": "2:4:8"})
    onnx.save(model, file)
    with pytest.raises(AbnFastError, match="batch 2:4:8: the server sends single images too"):
        write_model_repository(file, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["low.onnx", "photographs"]
