import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import create_model, load_checkpoint, save_checkpoint, to_published
from abn_fast.cli._demo_recipe import BACKBONE
from abn_fast.data import Preprocessing
from tests.cli.conftest import Run

SMALL = ("--model", "abn_cifar_resnet8", "--epochs", 2, "--batch-size", 8, "--image-size", 32)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "published.pth.tar"
    torch.save({"state_dict": to_published(create_model("abn_cifar_resnet8", num_classes=2)), "acc": 50.0}, path)
    return path


def test_a_folder_is_trained_evaluated_explained_and_exported(run: Run, image_folder: Path) -> None:
    trained = run("train", *SMALL, "--data", image_folder, "--out", "run")
    assert trained.code == 0, trained.err
    assert trained.out.count("epoch") == 2
    assert "run/last.safetensors" in trained.out

    evaluated = run("evaluate", "run/last.safetensors", "--data", image_folder)
    assert evaluated.code == 0, evaluated.err
    top1 = json.loads(Path("run/summary.json").read_text())["test_top1"]
    assert "8 images: loss " in evaluated.out
    assert f" top1 {top1:.1f} %" in evaluated.out

    image = image_folder / "test" / "dark" / "0.png"
    explained = run("explain", "run/last.safetensors", image, "--out", "pictures")
    assert explained.code == 0, explained.err
    assert {path.name for path in Path("pictures").iterdir()} == {"0-image.png", "0-attention.png", "0-overlay.png"}
    assert all(Image.open(path).copy().size == (36, 40) for path in Path("pictures").iterdir())
    assert any(f"{label} " in explained.out for label in ("bright", "dark"))


def test_labels_follow_the_checkpoint_s_classes(run: Run, image_folder: Path) -> None:
    model = create_model("abn_cifar_resnet8", num_classes=2)
    own = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)
    scores = []
    for index, classes in enumerate((["bright", "dark"], ["dark", "bright"])):
        save_checkpoint(model, f"{index}.safetensors", preprocessing=own, classes=classes)
        out = run("evaluate", f"{index}.safetensors", "--data", image_folder).out
        scores.append(float(re.search(r" top1 ([\d.]+) %", out)[1]))  # type: ignore[index]  # a match, or the test fails
    assert sum(scores) == pytest.approx(100)
    save_checkpoint(model, "other.safetensors", preprocessing=own, classes=["bright", "grey"])
    refused = run("evaluate", "other.safetensors", "--data", image_folder)
    assert refused.code == 2
    assert "dark" in refused.err


def test_weights_of_a_checkpoint_start_a_run_with_other_classes(run: Run, image_folder: Path) -> None:
    model = create_model("abn_cifar_resnet8", num_classes=5)
    save_checkpoint(model, "start.safetensors")
    data = ("--data", image_folder, "--image-size", 32)
    outcome = run("train", "--weights", "start.safetensors", *data, "--out", "run", "--lr", 1e-9, "--epochs", 1)
    assert outcome.code == 0, outcome.err
    trained = load_checkpoint("run/last.safetensors")
    assert trained.num_classes == 2
    key = "extractor.conv1.weight"
    torch.testing.assert_close(trained.state_dict()[key], model.state_dict()[key])


def test_a_finished_run_is_not_overwritten(run: Run, image_folder: Path) -> None:
    arguments = ("train", *SMALL, "--data", image_folder, "--out", "run")
    assert run(*arguments).code == 0
    before = Path("run/last.safetensors").read_bytes()
    outcome = run(*arguments)
    assert outcome.code == 2
    assert "run holds a run already: continue it with --resume run" in outcome.err
    assert Path("run/last.safetensors").read_bytes() == before


def test_resume_takes_its_settings_from_the_run(run: Run, image_folder: Path) -> None:
    assert run("train", *SMALL, "--data", image_folder, "--out", "run").code == 0
    finished = run("train", "--resume", "run")
    assert finished.code == 0, finished.err
    refused = run("train", "--resume", "run", "--epochs", 9, "--lr", 0.2)
    assert refused.code == 2
    assert "leave out --epochs, --learning-rate" in refused.err


def test_a_published_checkpoint_is_explained_and_evaluated_as_it_is(
    run: Run, checkpoint: Path, image_folder: Path
) -> None:
    assert run("evaluate", checkpoint, "--data", image_folder).code == 0
    outcome = run("explain", checkpoint, image_folder / "test" / "bright" / "1.png")
    assert outcome.code == 0, outcome.err
    assert "class " in outcome.out
    assert Path("runs/explain/1-overlay.png").exists()


def test_images_that_cannot_be_read_are_named_after_the_others_are_done(
    run: Run, checkpoint: Path, image_folder: Path
) -> None:
    Path("broken.png").write_bytes(b"\x89PNG not really")
    outcome = run("explain", checkpoint, "broken.png", image_folder / "test" / "dark" / "2.png", "missing.jpg")
    assert outcome.code == 2
    assert "broken.png" in outcome.err
    assert "missing.jpg" in outcome.err
    assert outcome.err.count("\n") == 1
    assert Path("runs/explain/2-overlay.png").exists()


def test_an_image_that_a_loading_process_cannot_read_is_one_line(run: Run, image_folder: Path) -> None:
    shutil.copytree(image_folder, "images")
    Path("images/train/dark/0.png").write_bytes(b"no image")
    outcome = run("train", *SMALL, "--data", "images", "--out", "run", "--workers", 1)
    assert outcome.code == 2
    assert "images/train/dark/0.png" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model", "abn_resnt50"), "unknown model 'resnt50'; did you mean resnet50"),
        (("train", "--epochs", 0), "epochs=0; expected a whole number of at least 1"),
        (("train", "--data", "nowhere"), "nowhere"),
        (("train", "--data", "cifar10"), "cifar10"),
        (("train", "--data", "empty"), "empty"),
        (("train", "--resume", "nowhere"), "nowhere holds no run"),
        (("train", "--schedule", "step", "--milestones", "a,b"), "expected a list of whole numbers"),
        (("train", "--device", "cuda:77"), "device 'cuda:77' cannot be used here"),
        (("evaluate", "empty/nothing.pth.tar"), "no such file"),
        (("evaluate", "text.pth.tar"), "text.pth.tar: the file is truncated, damaged or no checkpoint"),
        (("explain", "text.pth.tar", "a.png"), "no checkpoint"),
        (("evaluate", "published.pth.tar"), "the data set has 10 classes and the model 2"),
        (("evaluate", "published.pth.tar", "--batch-size", -1), "batch_size=-1"),
        (("explain", "plain.safetensors", "a.png"), "does not say how images are preprocessed"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_line(arguments: tuple[object, ...], message: str, run: Run, checkpoint: Path) -> None:
    Path("empty").mkdir()
    Path("text.pth.tar").write_text("no checkpoint at all")
    save_checkpoint(create_model("cifar_resnet8"), "plain.safetensors")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert len([line for line in outcome.err.splitlines() if not line.startswith(("Usage:", "Try "))]) <= 2
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_the_quick_start_compares_and_goes_on_where_it_was(run: Run) -> None:
    arguments = ("quickstart", "--out", "demo", "--epochs", 1, "--train-images", 64, "--test-images", 32)
    first = run(*arguments)
    assert first.code == 0, first.err
    summary = json.loads(Path("demo/summary.json").read_text())
    assert {key: sorted(value) if isinstance(value, dict) else value for key, value in summary.items()} == {
        "abn": ["energy", "pointing_game", "top1"],
        "baseline": ["top1"],
        "inverted_map": ["pointing_game"],
        "seconds": summary["seconds"],
    }
    assert np.asarray(Image.open("demo/attention.png")).std() > 10
    model = load_checkpoint("demo/abn/last.safetensors")
    assert model.config is not None
    assert model.config.name == f"abn_{BACKBONE}"
    again = run(*arguments)
    assert again.code == 0, again.err
    assert "epoch 1," not in again.out
    repeated = json.loads(Path("demo/summary.json").read_text())
    assert {**repeated, "seconds": 0} == {**summary, "seconds": 0}
