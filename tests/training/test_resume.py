"""Runs whose pictures are read by loader processes and changed at random go on exactly where they stopped."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import create_model
from abn_fast.data import ImageDataset, ImageFolder, InMemoryImages, Preprocessing, SkipUnreadable
from abn_fast.training import RandAugmentConfig, TrainingConfig, TrainingInterruptedError, train
from tests.data._files import truncate, write_picture
from tests.training._data import stripes
from tests.training._runs import assert_same_runs

CONFIG = TrainingConfig(epochs=2, batch_size=10, seed=3, rand_augment=RandAugmentConfig(2, 9))


class InterruptedFolder(ImageFolder):
    """Asks the training to stop, once, where its fifth sample of the second epoch is read."""

    asked: Tensor
    process: int

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if int(self._epoch) == 1 and self.asked.add_(1) == 5:
            os.kill(self.process, signal.SIGTERM)
        return super().__getitem__(index)


class InterruptedMemory(InMemoryImages):
    """Likewise where its third batch of the second epoch is read."""

    asked: Tensor

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        if int(self._epoch) == 1 and self.asked.add_(1) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitems__(indices)


def folder(root: Path, interrupted: bool) -> ImageDataset:
    """Pictures in files, two of which cannot be read."""
    if not root.exists():
        for number in range(44):
            write_picture(root / "ab"[number % 2] / f"{number:02}.png")
        for number in (7, 30):
            truncate(root / "ab"[number % 2] / f"{number:02}.png")
    kind = InterruptedFolder if interrupted else ImageFolder
    data = kind("train", root, preprocessing=Preprocessing((16, 16), (0.5,) * 3, (0.3,) * 3), augment=True)
    if isinstance(data, InterruptedFolder):
        data.asked, data.process = torch.zeros((), dtype=torch.int64).share_memory_(), os.getpid()
    return SkipUnreadable(data, at_most=2)


def memory(root: Path, interrupted: bool) -> ImageDataset:
    data = stripes(44)
    if interrupted:
        data.__class__ = InterruptedMemory
        assert isinstance(data, InterruptedMemory)
        data.asked = torch.zeros((), dtype=torch.int64)
    return data


def run(data: ImageDataset, out: Path, workers: int, resume: bool = False) -> None:
    torch.manual_seed(5)
    model = create_model("abn_cifar_resnet8", num_classes=len(data.classes), width=4)
    test = stripes(9, augment=False)
    if data.num_classes == 2:
        test = InMemoryImages(test.images, test.labels % 2, data.classes, data.preprocessing)
    train(model, data, test, CONFIG, out, resume=resume, workers=workers, log=lambda line: None)


@pytest.mark.parametrize(("make", "workers"), [(memory, 0), (folder, 2)])
def test_an_interrupted_run_ends_as_an_unbroken_one(make: Any, workers: int, tmp_path: Path) -> None:
    images, whole, broken = tmp_path / "images", tmp_path / "whole", tmp_path / "broken"
    run(make(images, False), whole, 0)
    with pytest.raises(TrainingInterruptedError, match="interrupted in epoch 2"):
        run(make(images, True), broken, workers)
    run(make(images, False), broken, workers, resume=True)
    assert_same_runs(whole, broken)


def test_unreadable_images_are_counted_in_the_summary(tmp_path: Path) -> None:
    run(folder(tmp_path / "images", False), tmp_path / "run", 1)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["skipped_images"] == 2
