import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from abn_fast import create_model
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx
from abn_fast.export.checksum import sha256
from abn_fast.export.description import description
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.tensorrt.accept import read_engine
from abn_fast.export.tensorrt.header import BITS, LENGTH, MAGIC, EngineHeader
from abn_fast.export.tensorrt.sidecar import Sidecar, sidecar_path
from tests.fuzzing._mutations import Fuzz, cases, damaged_bytes, damaged_value

HARD = ["", "null", "[]", "{", "[" * 100_000, '{"format": ' + "9" * 5000 + "}", '{"format": "1\\n"}', '"\\ud800"']
METADATA = Metadata(
    outputs=("logits", "attention"),
    precision="fp32",
    batch=BatchRange(1, 1, 1),
    size=SizeRange.fixed((16, 16)),
    channels=3,
    num_classes=3,
    model="abn_cifar_resnet8",
    classes=("a", "b", "c"),
    preprocessing=Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as an ONNX file."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="the extra export is not installed")
    path = tmp_path_factory.mktemp("exported") / "whole.onnx"
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=4)
    seen = METADATA.preprocessing
    export_onnx(model, path, size=METADATA.size, batch=METADATA.batch, preprocessing=seen, classes=METADATA.classes)
    return path


def opened(path: Path) -> InferenceSession:
    return InferenceSession(path, "onnxruntime", device="cpu", threads=1)


@cases(60, 3000)
def test_whatever_bytes_of_an_onnx_file_are_damaged(exported: Path, count: int, tmp_path: Path) -> None:
    path, whole, generator, fuzz = tmp_path / "m.onnx", exported.read_bytes(), random.Random(0), Fuzz()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(opened, path, name=path, case=case)
        fuzz.read(description, path, name=path, case=case)
    assert fuzz.refused > count / 2


@cases(60, 2000)
def test_whatever_the_graph_of_an_onnx_file_says(exported: Path, count: int, tmp_path: Path) -> None:
    """It is still a protobuf, so that the damage reaches the runtime's own checks."""
    import onnx

    path, generator, fuzz = tmp_path / "m.onnx", random.Random(1), Fuzz()
    for case in range(count):
        model = onnx.load(exported)
        for _ in range(generator.choice([1, 1, 2, 3])):
            message, field = generator.choice(list(fields(model)))
            change(message, field, generator)
        path.write_bytes(model.SerializeToString())
        fuzz.read(opened, path, name=path, case=case)
        fuzz.read(description, path, name=path, case=case)
    assert fuzz.refused
    assert fuzz.loaded


def fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every field that a protobuf states, and of the messages in it."""
    for field, value in message.ListFields():
        if field.name == "raw_data":
            continue
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for each in value if is_repeated(value) else [value]:
                yield from fields(each)


def is_repeated(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def change(message: Any, field: Any, generator: random.Random) -> None:
    value = getattr(message, field.name)
    if field.type == field.TYPE_MESSAGE or generator.random() < 0.2:
        if is_repeated(value) and len(value) and generator.random() < 0.7:
            del value[generator.randrange(len(value))]
        else:
            message.ClearField(field.name)
        return
    if field.type == field.TYPE_STRING:
        new: Any = generator.choice(["", "x", "a\nb", "é" * 3000, "Conv", "images"])
    elif field.type == field.TYPE_BYTES:
        new = generator.choice([b"", b"\xff\n", b"x" * 3000])
    elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        new = generator.choice([0.0, -1.0, float("nan"), float("inf")])
    else:
        new = generator.choice([0, 1, -1, 2, 7, 99, 2**31 - 1])
    try:
        if is_repeated(value):
            value[generator.randrange(len(value))] = new
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError):  # an enumeration, or a number that its type does not hold
        message.ClearField(field.name)


@cases(50, 2000)
def test_whatever_the_metadata_of_an_onnx_file_say(exported: Path, count: int, tmp_path: Path) -> None:
    import onnx

    path, generator, fuzz = tmp_path / "m.onnx", random.Random(2), Fuzz()
    model = onnx.load(exported)
    (entry,) = (each for each in model.metadata_props if each.key == KEY)
    whole = json.loads(entry.value)
    for case in range(count):
        said = damaged_value(whole, generator)
        entry.value = json.dumps(said)
        path.write_bytes(model.SerializeToString())
        fuzz.read(opened, path, name=path, case=(case, said))
        fuzz.read(description, path, name=path, case=(case, said))
    assert fuzz.refused > count / 4


@cases(600, 20_000)
def test_whatever_metadata_say(count: int) -> None:
    generator, fuzz, whole = random.Random(3), Fuzz(), json.loads(METADATA.to_json())
    for case in range(count):
        said = json.dumps(damaged_value(whole, generator))
        fuzz.read(Metadata.from_json, said, case=(case, said))
    for text in HARD:
        fuzz.read(Metadata.from_json, text, case=text)
    assert fuzz.refused > count / 2
    assert fuzz.loaded


@cases(200, 8000)
def test_whatever_a_sidecar_says(count: int, tmp_path: Path) -> None:
    engine, generator, fuzz = tmp_path / "model.engine", random.Random(4), Fuzz()
    targets, version = ("sm_86",), "1.4.0.76"
    content = bytearray(MAGIC + bytes(LENGTH - len(MAGIC)))
    content[16:24] = len(content).to_bytes(8, "little")
    content[24:28] = bytes(map(int, version.split(".")))
    content[32:36] = (1 << BITS.index("sm_86")).to_bytes(4, "little")
    engine.write_bytes(content)
    checksum = sha256(engine)
    Sidecar("tensorrt-rtx", version, targets, checksum, "0" * 64, METADATA, {"seconds": 1.0}).write(engine)
    read_engine(engine)
    whole = json.loads(sidecar_path(engine).read_text())
    for case in range(count):
        damaged = json.dumps(damaged_value(whole, generator)).encode()
        said = damaged if case % 2 else damaged_bytes(json.dumps(whole, indent=1).encode(), generator)
        sidecar_path(engine).write_bytes(said)
        fuzz.read(read_engine, engine, name=engine, case=(case, said))
    for text in HARD:
        sidecar_path(engine).write_text(text)
        fuzz.read(read_engine, engine, name=engine, case=text)
    assert fuzz.refused > count / 2


@cases(2000, 20_000)
def test_whatever_the_start_of_an_engine_says(count: int) -> None:
    generator, fuzz = random.Random(5), Fuzz()
    whole = MAGIC + bytes(range(LENGTH - len(MAGIC)))
    for case in range(count):
        data = damaged_bytes(whole, generator)
        fuzz.read(EngineHeader.read, data, case=(case, data))
    assert fuzz.refused
    assert fuzz.loaded
