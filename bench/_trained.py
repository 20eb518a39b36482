"""Networks trained on DigitsInTheWild as `abn-fast quickstart` trains its ABN."""

from dataclasses import replace
from pathlib import Path

import torch

from abn_fast.cli._demo_recipe import TEST_IMAGES, TRAIN_IMAGES, demo_config
from abn_fast.data import DigitsInTheWild, Preprocessing
from abn_fast.modules import ImageNetwork
from abn_fast.training import train
from abn_fast.training.config import Precision

CLASSES = 10


def digits(split: str, images: int = 0, preprocessing: Preprocessing | None = None, seed: int = 0) -> DigitsInTheWild:
    """As many as the quickstart takes, or fewer."""
    count = images or {"train": TRAIN_IMAGES, "test": TEST_IMAGES}[split]
    return DigitsInTheWild(split, count, seed if split == "train" else 0, preprocessing=preprocessing)


def train_on_digits(
    model: ImageNetwork,
    folder: Path,
    *,
    epochs: int,
    seed: int = 0,
    precision: Precision = "fp32",
    images: int = 0,
    preprocessing: Preprocessing | None = None,
) -> float:
    """Train a network in place; returns its accuracy on the test images in percent."""
    torch.manual_seed(seed)
    training, test = digits("train", images, preprocessing, seed), digits("test", 0, preprocessing)
    config = replace(demo_config(epochs, seed), precision=precision)
    model.to(memory_format=torch.channels_last)
    summary = train(model, training, test, config, folder, log=lambda line: None)
    return float(summary["test_top1"])
