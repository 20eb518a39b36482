import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from tests.cli.conftest import Run

XML = (
    "<annotation><object><name>dark</name><bndbox><xmin>5</xmin><ymin>8</ymin><xmax>20</xmax><ymax>30</ymax>"
    "</bndbox></object></annotation>"
)
FAST = ("--batch-size", 4, "--workers", 0)


@pytest.fixture
def checkpoint(run: Run) -> Path:
    own = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
    path = Path("model.safetensors")
    model = create_model("abn_cifar_resnet8", num_classes=2, width=4)
    save_checkpoint(model, path, preprocessing=own, classes=["bright", "dark"])
    return path


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_a_folder_with_annotations_is_scored(run: Run, checkpoint: Path, image_folder: Path) -> None:
    shutil.copytree(image_folder, "images")
    for path in list(Path("images/test/dark").glob("*.png"))[:3]:
        path.with_suffix(".xml").write_text(XML)
    outcome = run("explain-score", checkpoint, "--data", "images", "--methods", "abn,cam", "--out", "scores", *FAST)
    assert outcome.code == 0, outcome.err
    assert "8 images, 3 with boxes" in outcome.out
    rows = rows_of(Path("scores/scores.csv"))
    assert list(rows) == ["abn", "cam", "random", "centre", "inverted abn"]
    assert [row["control"] for row in rows.values()] == ["0", "0", "1", "1", "1"]
    shown = next(line for line in outcome.out.splitlines() if line.startswith("cam "))
    assert f" {float(rows['cam']['energy']):.1f} " in shown
    with Image.open("scores/scores.png") as picture:
        assert picture.width > 500


def test_without_boxes_faithfulness_is_left(run: Run, checkpoint: Path, image_folder: Path) -> None:
    arguments = ("explain-score", checkpoint, "--data", image_folder, "--methods", "abn", "--images", 3, *FAST)
    outcome = run(*arguments, "--metrics", "confidence")
    assert outcome.code == 0, outcome.err
    assert "3 images, 0 with boxes" in outcome.out
    assert "average drop" in outcome.out
    assert "pointing game" not in outcome.out
    refused = run(*arguments, "--metrics", "iou")
    assert refused.code == 2
    assert "metric 'iou' needs boxes and this data has none" in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "abn,kam"), "method='kam'; expected one of 'abn'"),
        (("--metrics", "beauty"), "metric='beauty'; expected one of 'pointing-game'"),
        (("--images", 0), "images=0; expected a whole number"),
        (("--task", "Smiling"), "task='Smiling'; expected one of 'bright', 'dark'"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, checkpoint: Path, image_folder: Path, arguments: tuple[object, ...], message: str
) -> None:
    outcome = run("explain-score", checkpoint, "--data", image_folder, *arguments, *FAST)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_file_that_is_no_image_is_named(run: Run, checkpoint: Path, image_folder: Path) -> None:
    shutil.copytree(image_folder, "images")
    Path("images/test/dark/1.png").write_bytes(b"no image")
    outcome = run("explain-score", checkpoint, "--data", "images", "--metrics", "confidence", "--workers", 1)
    assert outcome.code == 2
    assert "images/test/dark/1.png" in outcome.err
    assert outcome.err.count("\n") == 1
