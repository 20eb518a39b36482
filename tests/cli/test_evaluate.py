import json
import shutil
from pathlib import Path

import pytest

from abn_fast import create_model, load_checkpoint, save_checkpoint
from abn_fast.cli._data import line_of
from abn_fast.data import Preprocessing, create_dataset
from abn_fast.training import evaluate
from tests.cli.conftest import Run
from tests.data._files import truncate

SEEN = Preprocessing((16, 16), (0.5,) * 3, (0.3,) * 3)


@pytest.fixture
def checkpoint(run: Run) -> Path:
    path = Path("some.safetensors")
    save_checkpoint(
        create_model("abn_cifar_resnet8", num_classes=2, width=4), path, preprocessing=SEEN, classes=["bright", "dark"]
    )
    return path


@pytest.mark.parametrize(
    ("split", "validation", "images"),
    [("train", None, 24), ("train", "0.25", 18), ("validation", "0.25", 6), ("validation", "4", 4), ("test", "4", 8)],
)
def test_a_split_is_evaluated_as_the_library_opens_it(
    split: str, validation: str | None, images: int, run: Run, checkpoint: Path, image_folder: Path
) -> None:
    held_out = [] if validation is None else ["--validation", validation]
    data = ("--data", image_folder, "--split", split, *held_out)
    outcome = run("evaluate", checkpoint, *data, "--precision", "fp32", "--batch-size", 5, "--workers", 0)
    assert outcome.code == 0, outcome.err
    part = None if validation is None else json.loads(validation)
    dataset = create_dataset("image-folder", split, image_folder, preprocessing=SEEN, validation=part)
    metrics = evaluate(load_checkpoint(checkpoint), dataset, precision="fp32")
    assert outcome.out == f"{images} images: {line_of(metrics)}\n"


def test_a_validation_split_that_nobody_cut_out_is_refused(run: Run, checkpoint: Path, image_folder: Path) -> None:
    outcome = run("evaluate", checkpoint, "--data", image_folder, "--split", "validation")
    assert outcome.code == 2
    assert "say which, as validation=0.1" in outcome.err


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_the_evaluation_with_its_path(
    workers: int, run: Run, checkpoint: Path, image_folder: Path
) -> None:
    shutil.copytree(image_folder, "images")
    truncate(Path("images/test/dark/2.png"))
    outcome = run("evaluate", checkpoint, "--data", "images", "--workers", workers)
    assert outcome.code == 2
    assert "images/test/dark/2.png" in outcome.err
    assert outcome.err.count("\n") == 1
