from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import create_model, save_checkpoint
from abn_fast._errors import AbnFastError
from abn_fast.explain import animate_training
from tests.export._trained import CLASSES, SEEN, save_pictures, trained


@pytest.fixture
def run(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Checkpoints of three epochs, whose maps grow stronger, and two pictures."""
    checkpoints = []
    model: Any = create_model("abn_cifar_resnet8", num_classes=3, width=8)
    for epoch, scale in enumerate((0.0, 0.3, 1.0)):
        model.load_state_dict(trained().state_dict())
        with torch.no_grad():
            model.attention_branch.head.bn3.weight.mul_(scale)
        checkpoints.append(tmp_path / f"{epoch}.safetensors")
        metrics = {"epoch": epoch + 1} if epoch else None
        save_checkpoint(model, checkpoints[-1], preprocessing=SEEN, classes=CLASSES, metrics=metrics)
    return checkpoints, sorted(save_pictures(tmp_path / "pictures", range(2)).iterdir())


def frames_of(path: Path) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        frames, durations = [], []
        for index in range(gif.n_frames):  # type: ignore[attr-defined]  # of a GIF
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    return frames, durations


def test_a_frame_a_checkpoint_shows_the_map_grow_stronger(run: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    checkpoints, pictures = run
    animate_training(checkpoints, pictures, tmp_path / "a" / "map.gif", tile=56, seconds=0.2, alpha=1.0)
    frames, durations = frames_of(tmp_path / "a" / "map.gif")
    assert len(frames) == 3
    assert durations == [200, 200, 800]
    assert len({frame.shape for frame in frames}) == 1
    tile = np.s_[40:75, 20:65]  # of the first image
    spread = [frame[tile].std((0, 1)).sum() for frame in frames]
    assert spread[0] < 12 < spread[1] < spread[2]  # one scale over all: the first map is flat


def test_frames_are_told_apart_by_their_title(run: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    checkpoints, pictures = run
    same = [checkpoints[2], checkpoints[2].with_name("other.safetensors"), checkpoints[2]]
    model = trained()
    model.config = create_model("abn_cifar_resnet8", num_classes=3, width=8).config
    save_checkpoint(model, same[1], preprocessing=SEEN, classes=CLASSES, metrics={"epoch": 7})
    animate_training(same, pictures[:1], tmp_path / "map.gif", tile=56)
    frames, _ = frames_of(tmp_path / "map.gif")
    changed = np.argwhere((np.abs(frames[1] - frames[0]) > 60).any(-1))
    assert len(changed)
    assert changed[:, 0].max() < 40  # above the tiles
    assert np.abs(frames[2] - frames[0]).max() <= 8


def test_what_cannot_be_animated_is_refused(run: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    checkpoints, pictures = run
    silent, tasks = tmp_path / "silent.safetensors", tmp_path / "tasks.safetensors"
    model: Any = create_model("abn_cifar_resnet8", num_classes=3, width=4)
    save_checkpoint(model, silent)
    many: Any = create_model("multi_task_abn_cifar_resnet8", num_classes=3, width=4)
    save_checkpoint(many, tasks, preprocessing=SEEN)
    for given, images, options, message in (
        ([], pictures, {}, "0 checkpoints, 2 images"),
        (checkpoints, [], {}, "3 checkpoints, 0 images"),
        (checkpoints, pictures, {"seconds": 0.0}, "more than 0 seconds"),
        ([silent], pictures, {}, "silent.safetensors does not say how images are preprocessed"),
        ([tasks], pictures, {}, "3 tasks and a map for each: expected a model of classes"),
        ([tmp_path / "no"], pictures, {}, "no such file"),
        (checkpoints, [tmp_path / "no.png"], {}, "no.png"),
        (checkpoints, pictures, {"method": "lime"}, "method='lime'"),
    ):
        with pytest.raises(AbnFastError, match=message):
            animate_training(given, images, tmp_path / "map.gif", **options)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AbnFastError, match="cannot write"):
        animate_training(checkpoints, pictures, tmp_path / "file" / "map.gif", tile=56)
    assert not (tmp_path / "map.gif").exists()
