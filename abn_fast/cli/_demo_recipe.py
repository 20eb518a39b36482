"""How `quickstart` and `explain-study` train: one ABN and its plain baseline, in about the same time."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abn_fast.cli.train import channels_last

if TYPE_CHECKING:
    from abn_fast.data import DigitsInTheWild
    from abn_fast.modules import ImageNetwork
    from abn_fast.training import TrainingConfig

BACKBONE = "cifar_resnet8"
EPOCHS, TRAIN_IMAGES, TEST_IMAGES = 4, 10_000, 1_000
BASELINE_EPOCHS = 1.75
"""Epochs of the baseline for each of the ABN's, in about the same time: its step takes about half of it."""


def demo_config(epochs: int, seed: int) -> "TrainingConfig":
    """The training of the ABN."""
    from abn_fast.training import OptimizerConfig, ScheduleConfig, TrainingConfig

    return TrainingConfig(
        epochs=epochs,
        batch_size=16,
        optimizer=OptimizerConfig(name="adamw", lr=0.003, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=0.3),
        seed=seed,
    )


def baseline_config(config: "TrainingConfig") -> "TrainingConfig":
    """That of its plain baseline: more epochs."""
    return replace(config, epochs=int(BASELINE_EPOCHS * config.epochs))


def trained(
    name: str, train_set: "DigitsInTheWild", test_set: "DigitsInTheWild", config: "TrainingConfig", folder: Path
) -> "tuple[ImageNetwork, dict[str, Any]]":
    """Network and summary of the run in `folder`, which is started, finished or just read."""
    import torch

    from abn_fast._errors import AbnFastError
    from abn_fast.models import create_model
    from abn_fast.training import RunFolder, choose_device, train

    run = RunFolder(folder)
    settings = {
        "model": {"name": name, "arguments": {"num_classes": 10}},
        "data": {"data": "digits-in-the-wild", "root": "data", "download": False, "image_size": None},
        "images": [len(train_set), len(test_set)],
        "training": config.to_dict(),
    }
    torch.manual_seed(config.seed)
    model = create_model(name, num_classes=10)
    channels_last(model, choose_device())
    if not run.settings.exists():
        run.create(settings)
    elif run.read_settings() != settings:
        raise AbnFastError(f"{folder} holds a run with other settings: remove it or choose another --out")
    click.echo(f"{name} in {folder}")
    resume = run.checkpoint.exists()
    summary = train(model, train_set, test_set, config, folder, resume=resume, progress=True, log=click.echo)
    return model, summary
