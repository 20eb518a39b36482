import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abn_fast.cli._demo_recipe import BACKBONE, EPOCHS, TEST_IMAGES, TRAIN_IMAGES, baseline_config, demo_config, trained

if TYPE_CHECKING:
    from abn_fast.data import DigitsInTheWild
    from abn_fast.modules import ImageNetwork

SHEET_IMAGES = 16


@click.command()
@click.option("--out", default="runs/demo", show_default=True, type=click.Path(), help="Folder of all files.")
@click.option("--epochs", type=int, default=EPOCHS, show_default=True)
@click.option("--train-images", type=int, default=TRAIN_IMAGES, show_default=True)
@click.option("--test-images", type=int, default=TEST_IMAGES, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def quickstart(out: str, epochs: int, train_images: int, test_images: int, seed: int) -> None:
    """Train a small ABN and its plain baseline on real digits in real photographs, and show where the ABN looks.

    Both have the same budget of time: a step of the baseline takes about half as long, so it trains more epochs.
    Interrupted, it goes on where it was when called again.
    """
    from abn_fast.data import DigitsInTheWild
    from abn_fast.training.run import write_text

    started = time.perf_counter()
    folder = Path(out)
    config = demo_config(epochs, seed)
    click.echo(f"{train_images} training and {test_images} held-out images of DigitsInTheWild ...")
    train_set = DigitsInTheWild("train", train_images, seed)
    test_set = DigitsInTheWild("test", test_images, seed)
    before_training = time.perf_counter()
    network, abn = trained(f"abn_{BACKBONE}", train_set, test_set, config, folder / "abn")
    _, baseline = trained(BACKBONE, train_set, test_set, baseline_config(config), folder / "baseline")
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
