import json
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import create_model, save_checkpoint
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.training._state import restore, training_tensors
from tests.fuzzing._mutations import Fuzz, cases, damaged_bytes, damaged_value

HUGE = [0, 1, 7, 2**31, 2**32, 2**40, 2**63 - 1, 2**64 - 1]
"""Lengths that a header's first 8 bytes may state."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network and its optimizer, after a step."""
    path = tmp_path_factory.mktemp("checkpoint") / "whole.safetensors"
    model = create_model("abn_cifar_resnet8", num_classes=3, width=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sum(parameter.sum() for parameter in model.parameters()).backward()  # type: ignore[union-attr]  # not empty
    optimizer.step()
    save_checkpoint(
        model,
        path,
        preprocessing=Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3),
        classes=["a", "b", "c"],
        metrics={"top1": 50.0},
        training={"epoch": 1, "images": 4, "sums": [[1.0, 2.0]], "seconds": 3.0, "history": [{"loss": 1.0}]},
        training_tensors=training_tensors(optimizer, None),
    )
    return path


def taken_apart(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The table of tensors, our own header, the body."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    return table, json.loads(table["__metadata__"]["abn_fast"]), content[8 + length :]


def put_together(table: dict[str, Any], header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    encoded = json.dumps({**table, "__metadata__": {"abn_fast": text}}).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


@cases(120, 4000)
def test_whatever_bytes_are_damaged(checkpoint: Path, count: int, tmp_path: Path) -> None:
    path, whole, generator, fuzz = tmp_path / "m.safetensors", checkpoint.read_bytes(), random.Random(0), Fuzz()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        if case < len(HUGE):
            data = struct.pack("<Q", HUGE[case]) + whole[8:]
        path.write_bytes(data)
        fuzz.read(read_checkpoint, path, name=path, case=(case, data[:300]))
    assert fuzz.refused > count / 2


@cases(60, 4000)
def test_whatever_the_header_says(checkpoint: Path, count: int, tmp_path: Path) -> None:
    table, header, body = taken_apart(checkpoint)
    path, generator, fuzz = tmp_path / "m.safetensors", random.Random(1), Fuzz()
    for case in range(count):
        said = damaged_value(header, generator)
        path.write_bytes(put_together(table, said, body))
        fuzz.read(read_checkpoint, path, name=path, case=(case, said))
    assert fuzz.refused > count / 4
    assert fuzz.loaded  # such as other class names


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[" * 100_000, '{"format": ' + "9" * 5000 + "}", '{"format": NaN}', '"\\ud800"']
)
def test_headers_that_are_hard_to_parse(text: str, checkpoint: Path, tmp_path: Path) -> None:
    table, _, body = taken_apart(checkpoint)
    path, fuzz = tmp_path / "m.safetensors", Fuzz()
    path.write_bytes(put_together(table, text, body))
    fuzz.read(read_checkpoint, path, name=path, case=text)
    assert fuzz.refused


@cases(60, 2000)
def test_whatever_the_table_of_tensors_says(checkpoint: Path, count: int, tmp_path: Path) -> None:
    table, header, body = taken_apart(checkpoint)
    del table["__metadata__"]
    path, generator, fuzz = tmp_path / "m.safetensors", random.Random(2), Fuzz()
    for case in range(count):
        said = damaged_value(table, generator)
        said = said if isinstance(said, dict) else {}
        path.write_bytes(put_together(said, header, body))
        fuzz.read(read_checkpoint, path, name=path, case=case)
    assert fuzz.refused > count / 2


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # torch's, for some of them
@cases(80, 3000)
def test_whatever_is_wrong_with_a_published_checkpoint(count: int, tmp_path: Path) -> None:
    path, generator, fuzz = tmp_path / "m.pth.tar", random.Random(3), Fuzz()
    torch.save({"epoch": 1, "state_dict": {"module.conv1.weight": torch.zeros(4, 3, 3, 3)}, "best_acc": 1.0}, path)
    whole = path.read_bytes()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(read_checkpoint, path, name=path, case=(case, data[:300]))
    assert fuzz.refused == count  # its network is none


@cases(60, 2000)
def test_whatever_the_training_state_says(checkpoint: Path, count: int) -> None:
    whole, generator, fuzz = read_checkpoint(checkpoint), random.Random(4), Fuzz()
    for case in range(count):
        optimizer = torch.optim.SGD(nn.ParameterList(whole.model.parameters()), lr=0.1, momentum=0.9)
        named = damaged_value({name: name for name in whole.training_tensors}, generator)
        damaged = replace(
            whole,
            training=damaged_value(whole.training, generator),
            training_tensors={
                name: whole.training_tensors.get(str(which), torch.zeros(2)) for name, which in named.items()
            },
        )
        fuzz.read(restore, damaged, optimizer, None, case=(case, damaged.training, list(named)))
    assert fuzz.refused > count / 4
