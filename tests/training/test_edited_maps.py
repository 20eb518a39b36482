"""Fine-tuning towards edited maps: the distance, what it does to the maps, and exact resumption."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError, abn_loss, create_model, save_checkpoint
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import EditedMaps, ImageFolder, Preprocessing
from abn_fast.explain.edit import map_size
from abn_fast.modules import ABNOutput, ImageNetwork
from abn_fast.training import LossConfig, MixConfig, OptimizerConfig, RandAugmentConfig, TrainingConfig, train
from abn_fast.training.objective import loss_with_edited_maps, map_distance
from tests.export._networks import small
from tests.training._runs import assert_same_runs

ROOT = Path(__file__).parents[2]
SEEN = Preprocessing((24, 24), (0.5,) * 3, (0.3,) * 3)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Dark and bright noise, and maps of the first three of each class that look at the left half."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name, low in (("bright", 150), ("dark", 0)):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(low, low + 100, (30, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    left = np.zeros((30, 30), np.uint8)
    left[:, :15] = 255
    for name in ("bright", "dark"):
        maps = tmp_path / "maps" / "train" / name
        maps.mkdir(parents=True)
        for index in range(3):
            Image.fromarray(left).save(maps / f"{index}.png")
    return tmp_path / "images"


def network(width: int = 16) -> ImageNetwork:
    torch.manual_seed(0)
    return create_model("abn_cifar_resnet8", num_classes=2, width=width)


def edited(images: Path, model: ImageNetwork, augment: bool = False) -> EditedMaps:
    data = ImageFolder("train", images, preprocessing=SEEN, augment=augment, augmentation_seed=3)
    return EditedMaps(data, images.with_name("maps"), images, map_size(model, SEEN))


def test_the_distance_is_a_sum_over_pixels_and_a_mean_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    values = torch.rand(3, 8, 8, generator=generator, dtype=torch.float64)
    known = torch.ones(3, 8, 8, dtype=torch.float64)
    known[1], known[2, :4] = 0, 0  # one without a map, one whose upper half is unknown
    distance = map_distance(attention, torch.stack([values * known, known], 1))
    expected = 0.0
    for image, rows in ((0, (0, 1)), (2, (1,))):
        for row in rows:
            for column in (0, 1):
                cell = values[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
                expected += float((attention[image, 0, row, column] - cell) ** 2)
    assert float(distance) == pytest.approx(expected / 3, rel=1e-12)


def test_the_loss_is_the_papers_and_the_weighted_distance() -> None:
    output = ABNOutput(torch.randn(2, 3), torch.randn(2, 3), torch.rand(2, 1, 4, 4))
    target, maps = torch.tensor([0, 2]), torch.stack([torch.full((2, 4, 4), 0.25), torch.ones(2, 4, 4)], 1)
    loss = loss_with_edited_maps(output, target, maps, LossConfig(map_weight=0.7))
    distance = (output.attention[:, 0] - 0.25).square().sum((1, 2)).mean()
    torch.testing.assert_close(loss, abn_loss(output, target) + 0.7 * distance)


def test_the_maps_of_edited_images_move_to_what_was_drawn(images: Path, tmp_path: Path) -> None:
    distances = {}
    for weight in (0.0, 1.0):
        model = network(8)
        data = edited(images, model)
        config = TrainingConfig(
            epochs=10, batch_size=8, optimizer=OptimizerConfig(lr=0.02), loss=LossConfig(map_weight=weight)
        )
        test_set = ImageFolder("test", images, preprocessing=SEEN)
        train(model, data, test_set, config, tmp_path / str(weight), log=lambda line: None)
        chosen = torch.stack([data[index][0] for index in (0, 1, 2, 12, 13, 14)])
        with torch.no_grad():
            attention = model.eval()(chosen[:, :3]).attention
        distances[weight] = float((attention[:, 0] - chosen[:, 3].reshape(6, 12, 2, 12, 2).mean((2, 4))).abs().mean())
    assert distances[1.0] < 0.7 * distances[0.0], distances


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainingConfig(mix=MixConfig(mixup=0.2)), "mix.mixup=0.2 changes images but not their edited maps"),
        (TrainingConfig(mix=MixConfig(cutmix=1.0)), "mix.cutmix=1.0"),
        (TrainingConfig(rand_augment=RandAugmentConfig(2)), "rand_augment.operations=2"),
    ],
)
def test_what_would_not_move_the_maps_is_refused(
    config: TrainingConfig, message: str, images: Path, tmp_path: Path
) -> None:
    model = network()
    with pytest.raises(AbnFastError, match=message):
        train(model, edited(images, model, True), ImageFolder("test", images), config, tmp_path / "run")


def test_networks_without_one_map_are_refused(images: Path, tmp_path: Path) -> None:
    data = edited(images, network())
    plain = create_model("cifar_resnet8", num_classes=2)
    with pytest.raises(AbnFastError, match="plain classifier"):
        train(plain, data, ImageFolder("test", images), TrainingConfig(), tmp_path / "run")


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_run_that_breaks_off_and_goes_on_ends_as_an_unbroken_one(
    accumulation_steps: int, images: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(epochs=2, batch_size=8, seed=2, accumulation_steps=accumulation_steps)
    test_set = ImageFolder("test", images, preprocessing=SEEN)

    def go(folder: str, resume: bool, log: Callable[[str], None]) -> None:
        model = network()
        train(model, edited(images, model, True), test_set, config, tmp_path / folder, resume=resume, log=log)

    def stop(line: str) -> None:
        raise StoppedError

    go("whole", False, lambda line: None)
    with pytest.raises(StoppedError):
        go("broken", False, stop)
    go("broken", True, lambda line: None)
    assert_same_runs(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_fine_tuning_that_is_killed_ends_as_an_unbroken_one(images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_checkpoint(small("abn-cifar_resnet8", classes=2)[0], weights, preprocessing=SEEN, classes=["bright", "dark"])
    settings = ["--epochs", "12", "--batch-size", "4", "--learning-rate", "0.01", "--set", "checkpoint_steps=2"]
    options = ["--weights", weights, "--data", images, "--edited-maps", tmp_path / "maps", *settings]

    def start(folder: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "abn_fast", "train", *options, "--out", folder, "--resume", "auto"]
        return subprocess.Popen(
            [*map(str, command), "--device", "cpu", "--workers", "1"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole).wait() == 0
    generator = random.Random(1)
    for _ in range(2):
        process = start(broken)
        while process.poll() is None and not (broken / "last.safetensors").exists():
            time.sleep(0.001)
        time.sleep(generator.uniform(0.05, 0.5))
        process.kill()
        assert process.wait() != 0, "it had ended before it was killed"
    assert start(broken).wait() == 0
    assert read_checkpoint(broken / "last.safetensors").preprocessing == SEEN
    assert_same_runs(whole, broken)
