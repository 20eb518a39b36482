import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abn_fast.cli.train import channels_last

if TYPE_CHECKING:
    from abn_fast.data import DigitsInTheWild
    from abn_fast.modules import ImageNetwork

BACKBONE = "cifar_resnet8"
BASELINE_EPOCHS = 1.75
"""Epochs of the baseline for each of the ABN's, in about the same time: its step takes a little over half of it."""
SHEET_IMAGES = 16


@click.command()
@click.option("--out", default="runs/demo", show_default=True, type=click.Path(), help="Folder of all files.")
@click.option("--epochs", type=int, default=4, show_default=True)
@click.option("--train-images", type=int, default=10_000, show_default=True)
@click.option("--test-images", type=int, default=1_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def quickstart(out: str, epochs: int, train_images: int, test_images: int, seed: int) -> None:
    """Train a small ABN and its plain baseline on real digits in real photographs, and show where the ABN looks.

    Both have the same budget of time: a step of the baseline takes about half as long, so it trains more epochs.
    Interrupted, it goes on where it was when called again.
    """
    from abn_fast.data import DigitsInTheWild
    from abn_fast.training import OptimizerConfig, ScheduleConfig, TrainingConfig
    from abn_fast.training.run import write_text

    started = time.perf_counter()
    folder = Path(out)
    config = TrainingConfig(
        epochs=epochs,
        batch_size=32,
        optimizer=OptimizerConfig(nesterov=True, weight_decay=1e-3),
        schedule=ScheduleConfig(warmup_epochs=0.3),
        seed=seed,
    )
    click.echo(f"{train_images} training and {test_images} held-out images of DigitsInTheWild ...")
    train_set = DigitsInTheWild("train", train_images, seed)
    test_set = DigitsInTheWild("test", test_images, seed)
    before_training = time.perf_counter()
    network, abn = _trained(f"abn_{BACKBONE}", train_set, test_set, config, folder / "abn")
    longer = replace(config, epochs=int(BASELINE_EPOCHS * epochs))
    _, baseline = _trained(BACKBONE, train_set, test_set, longer, folder / "baseline")
    after_training = time.perf_counter()
    _write_sheet(network, test_set, folder / "attention.png")
    others = before_training - started + time.perf_counter() - after_training
    summary = {
        "abn": {name: abn[f"test_{name}"] for name in ("top1", "pointing_game", "energy")},
        "baseline": {"top1": baseline["test_top1"]},
        "inverted_map": {"pointing_game": abn["test_inverted_pointing_game"]},
        "seconds": round(others + abn["seconds"] + baseline["seconds"], 1),
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    _show(summary, {"abn": abn["seconds"], "baseline": baseline["seconds"]}, folder)


def _trained(
    name: str, train_set: "DigitsInTheWild", test_set: "DigitsInTheWild", config: Any, folder: Path
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


def _write_sheet(model: "ImageNetwork", test_set: "DigitsInTheWild", path: Path) -> None:
    """Held-out images with their maps, predictions and confidences."""
    import torch

    from abn_fast.explain import contact_sheet
    from abn_fast.explain._files import write_png

    images, labels = test_set.batch(range(SHEET_IMAGES))
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model.eval()(images.to(device))
    confidence, predicted = output.logits.float().softmax(1).max(1)
    sheet = contact_sheet(
        test_set.preprocessing.denormalize(images),
        output.attention.float().cpu(),
        [test_set.classes[label] for label in labels.tolist()],
        [test_set.classes[label] for label in predicted.tolist()],
        confidence.tolist(),
    )
    write_png(sheet, path)


def _show(summary: dict[str, Any], seconds: dict[str, float], folder: Path) -> None:
    def cell(value: float | None, unit: str) -> str:
        return " " * 16 if value is None else f"{value:14.1f} {unit}"

    click.echo(f"\n{'held-out images':18}{'top-1':>16}{'pointing game':>16}{'energy in box':>16}{'training':>16}")
    for label, row in (("ABN", "abn"), ("plain baseline", "baseline"), ("inverted map", "inverted_map")):
        scores = [summary[row].get(name) for name in ("top1", "pointing_game", "energy")]
        click.echo(f"{label:18}" + "".join(cell(score, "%") for score in scores) + cell(seconds.get(row), "s"))
    checkpoint = folder / "abn" / "last.safetensors"
    click.echo(
        f"\n{summary['seconds']:.0f} s. Pictures: {folder / 'attention.png'}; figures: {folder / 'summary.json'}\n"
        f"\nNext:\n"
        f"  abn-fast explain {checkpoint} YOUR_IMAGE.png\n"
        f"  abn-fast evaluate {checkpoint} --data digits-in-the-wild\n"
        f"  abn-fast train --model abn_resnet18 --data YOUR_FOLDER --epochs 30"
    )
