"""How long a training step waits for its images, on the CPU: loading and augmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from abn_fast import create_model
from abn_fast.benchmark_report import Case, Comparison
from abn_fast.data import DigitsInTheWild, ImageDataset, ImageFolder
from abn_fast.training import TrainingConfig, train
from abn_fast.training._feed import workers_for
from bench._compare import note

MOST = 0.05
"""Share of the time of all steps but the first."""


def digits(folder: Path) -> tuple[ImageDataset, ImageDataset]:
    return DigitsInTheWild("train", 1024, augment=True), DigitsInTheWild("test", 8)


def photographs(folder: Path) -> tuple[ImageDataset, ImageDataset]:
    """JPEG pictures of 500x375 pixels, as ImageNet's mostly are: smooth patches and noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 2)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                patches = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
                noise = generator.normal(0, 8, (375, 500, 3))
                pixels = (np.asarray(patches) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.jpg", quality=90)
    return ImageFolder("train", folder, augment=True), ImageFolder("test", folder)


CASES = {
    "DigitsInTheWild, abn_cifar_resnet20, batch 128": (digits, "abn_cifar_resnet20", 128),
    "folder of photographs, 224x224, abn_resnet18, batch 16": (photographs, "abn_resnet18", 16),
}


@pytest.mark.models("abn_cifar_resnet20", "abn_resnet18")
@pytest.mark.parametrize("case", CASES)
def test_steps_hardly_wait_for_their_images(case: str, tmp_path: Path, benchmark: Any) -> None:
    make, name, batch_size = CASES[case]
    training, test = make(tmp_path / "images")
    model = create_model(name, num_classes=len(training.classes))
    config = TrainingConfig(epochs=1, batch_size=batch_size)
    workers = workers_for(training)
    summary = benchmark.pedantic(
        train, (model, training, test, config, tmp_path / "run"), {"workers": workers, "log": str}, rounds=1
    )
    share, speed = summary["waiting_for_data"], summary["images_per_second"]
    benchmark.extra_info.update(case=case, path=summary["data"], share=share, images_per_second=speed)
    measured = Case(name, batch=batch_size, classes=len(training.classes), mode="data")
    note(benchmark, Comparison.of(measured, "share", {f"waiting, {case.partition(',')[0]}": [share]}))
    print(f"\n{case}: {100 * share:.2f} % of the time waiting for data ({summary['data']}), {speed:.0f} images/s")
    assert share <= MOST
