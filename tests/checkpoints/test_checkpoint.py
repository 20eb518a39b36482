import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from abn_fast import AbnFastError, create_model, load_checkpoint, save_checkpoint, to_published
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import CIFAR, Preprocessing
from abn_fast.modules import AttentionBranchNetwork

PREPROCESSING = Preprocessing((48, 40), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), crop_pct=0.9)


@pytest.fixture
def model() -> AttentionBranchNetwork:
    network = create_model("abn_cifar_resnet8", num_classes=3, gate="product").eval()
    assert isinstance(network, AttentionBranchNetwork)
    return network


@pytest.mark.parametrize("name", ["abn_cifar_resnet8", "cifar_resnet8", "abn_resnext11_2x4d", "abn_se_resnet18"])
def test_a_model_comes_back_without_being_told_its_name(name: str, tmp_path: Path) -> None:
    model = create_model(name, num_classes=4).eval()
    save_checkpoint(model, tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_what_is_known_about_the_model_comes_back(model: AttentionBranchNetwork, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {"optimizer.0.momentum": torch.randn(2, 2)}
    save_checkpoint(
        model,
        path,
        preprocessing=PREPROCESSING,
        classes=["a", "b", "ü"],
        metrics={"top1": 91.5},
        training={"epoch": 3},
        training_tensors=tensors,
    )
    loaded = read_checkpoint(path)
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.classes == ["a", "b", "ü"]
    assert loaded.metrics == {"top1": 91.5}
    assert loaded.training == {"epoch": 3}
    assert torch.equal(loaded.training_tensors["optimizer.0.momentum"], tensors["optimizer.0.momentum"])
    assert safetensors.torch.load_file(path).keys() == model.state_dict().keys() | {"training.optimizer.0.momentum"}


def test_other_layouts_and_dtypes_of_weights_are_kept(model: AttentionBranchNetwork, tmp_path: Path) -> None:
    model.to(memory_format=torch.channels_last).bfloat16()
    save_checkpoint(model, tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def test_a_published_checkpoint_is_recognised_by_its_content(tmp_path: Path) -> None:
    model = create_model("abn_cifar_resnet8", num_classes=3).eval()
    images = torch.randn(1, 3, 32, 32)
    for legacy in (False, True):
        path = tmp_path / "model_best.pth.tar"
        content = {
            "epoch": 12,
            "state_dict": to_published(model),
            "acc": np.float64(71.5),
            "best_acc": torch.tensor(72.0),
            "optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9).state_dict(),
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        loaded = read_checkpoint(path)
        assert isinstance(loaded.model, AttentionBranchNetwork)
        assert torch.equal(loaded.model(images).logits, model(images).logits)
        assert loaded.metrics == {"epoch": 12.0, "acc": 71.5, "best_acc": 72.0}
        assert loaded.preprocessing == CIFAR


class RunsCode:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    state = to_published(create_model("abn_cifar_resnet8"))
    torch.save({"state_dict": state, "extra": RunsCode(trace)}, tmp_path / "torch.pth.tar")
    torch.save(
        {"state_dict": state, "extra": RunsCode(trace)}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False
    )
    (tmp_path / "bare.pth.tar").write_bytes(pickle.dumps(RunsCode(trace), protocol=2))
    for name in ("torch.pth.tar", "old.pth.tar", "bare.pth.tar"):
        with pytest.raises(AbnFastError, match=f"{name}: refused: reading it would run code") as refusal:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(refusal.value)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
@pytest.mark.parametrize("kind", ["own", "published", "legacy"])
def test_a_truncated_file_is_one_clear_line(kind: str, share: float, tmp_path: Path) -> None:
    model, path = create_model("abn_cifar_resnet8"), tmp_path / "checkpoint"
    if kind == "own":
        save_checkpoint(model, path)
    else:
        torch.save({"state_dict": to_published(model)}, path, _use_new_zipfile_serialization=kind == "published")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AbnFastError, match=r"checkpoint: the file is truncated") as refusal:
        load_checkpoint(path)
    assert "\n" not in str(refusal.value)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.pop("model"), "header is damaged"),
        (lambda own: own.update(format=99), "another version"),
        (lambda own: own["model"].update(name="abn_nothing"), "unknown model"),
        (lambda own: own["model"].update(name=3), "names no model"),
        (lambda own: own["model"]["arguments"].update(depth=3), "already"),
        (lambda own: own["model"]["arguments"].update(colour="red"), "takes no argument 'colour'"),
        (lambda own: own["model"]["arguments"].update(num_classes=4), "wrong shapes"),
        (lambda own: own.update(preprocessing={"size": 3}), "preprocessing has unknown keys"),
    ],
)
def test_a_damaged_header_is_one_clear_line(
    change: Any, message: str, model: AttentionBranchNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(model, path)
    header, tensors = header_of(path)
    own = json.loads(header["__metadata__"]["abn_fast"])
    change(own)
    header["__metadata__"]["abn_fast"] = json.dumps(own)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    with pytest.raises(AbnFastError, match=message) as refusal:
        load_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_safetensors_of_somebody_else_are_named(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors")
    with pytest.raises(AbnFastError, match="without abn_fast's header"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"nothing\.pth\.tar: no such file"):
        load_checkpoint(tmp_path / "nothing.pth.tar")


def test_a_failed_write_leaves_what_was_there(
    model: AttentionBranchNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(model, path)
    before = path.read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("abn_fast.checkpoints._safetensors.save_file", full)
    with pytest.raises(AbnFastError, match="No space left on device"):
        save_checkpoint(model, path, metrics={"top1": 1.0})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_wrong_number_of_class_names_is_refused(model: AttentionBranchNetwork, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match="2 class names for a model of 3 classes"):
        save_checkpoint(model, tmp_path / "m.safetensors", classes=["a", "b"])
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_that_no_name_rebuilds_is_refused(model: AttentionBranchNetwork, tmp_path: Path) -> None:
    model.config = None
    with pytest.raises(AbnFastError, match="no name rebuilds it"):
        save_checkpoint(model, tmp_path / "m.safetensors")
