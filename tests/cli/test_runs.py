"""Recipes, comparison of runs and the paper's tables on the command line."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run

OWN = """
about: a test
model: {name: abn_cifar_resnet8, arguments: {width: 4}}
data: {data: DATA, image_size: 16}
training:
  epochs: 1
  batch_size: 4
  optimizer: {lr: 1e-2}
"""


@pytest.fixture
def recipe(image_folder: Path) -> Path:
    path = Path("own.yaml")
    path.write_text(OWN.replace("DATA", str(image_folder)))
    return path


def test_a_recipe_trains_and_its_changes_are_named(run: Run, recipe: Path) -> None:
    outcome = run("train", "--recipe", recipe, "--set", "optimizer.lr=2e-2", "--batch-size", 2, "--out", "run")
    assert outcome.code == 0, outcome.err
    settings = json.loads(Path("run/run.json").read_text())
    assert settings["training"]["optimizer"]["lr"] == 0.02
    assert settings["training"]["batch_size"] == 2
    assert settings["model"]["arguments"]["width"] == 4
    assert settings["departs"] == ["batch_size=2", "optimizer.lr=2e-2"]
    card = Path("run/README.md").read_text()
    assert "`optimizer.lr=2e-2`" in card
    assert "test top1" in card
    assert "In no recipe of the paper: `schedule.name=cosine`." in card
    for name in ("first step", "steps after it"):
        assert re.search(rf"\| {name} \| [1-9.0]+ ", card)
    assert json.loads(Path("run/summary.json").read_text())["beyond_the_paper"] == ["schedule.name=cosine"]


def test_resume_auto_starts_goes_on_and_refuses_other_settings(run: Run, recipe: Path) -> None:
    arguments = ("train", "--recipe", recipe, "--out", "run", "--resume", "auto")
    assert run(*arguments).code == 0
    before = Path("run/last.safetensors").read_bytes()
    again = run(*arguments)
    assert again.code == 0, again.err
    assert Path("run/last.safetensors").read_bytes() == before
    other = run(*arguments, "--lr", 0.5)
    assert other.code == 2
    assert "run holds a run with training.optimizer.lr=0.01, not 0.5" in other.err


def test_the_best_epoch_is_kept_beside_the_last(run: Run, recipe: Path) -> None:
    outcome = run("train", "--recipe", recipe, "--validation", "2", "--out", "run")
    assert outcome.code == 0, outcome.err
    assert Path("run/best.safetensors").exists()
    assert "best epoch on the validation set" in Path("run/README.md").read_text()


def test_runs_are_shown_side_by_side(run: Run, recipe: Path) -> None:
    for name, lr in (("one", 0.01), ("two", 0.02)):
        assert run("train", "--recipe", recipe, "--lr", lr, "--out", name).code == 0
    outcome = run("compare", "one", "two", "--out", "both.png")
    assert outcome.code == 0, outcome.err
    rows = {line.split("  ")[0]: line.split()[-2:] for line in outcome.out.splitlines()[1:] if "  " in line}
    assert rows["training.optimizer.lr"] == ["0.01", "0.02"]
    assert "training.epochs" not in rows
    assert {value.rstrip("*") for value in rows["test top1"]} <= {"0", "25", "50", "75", "100"}
    with Image.open("both.png") as picture:
        assert picture.width > 300


def test_an_unfinished_run_is_not_compared(run: Run) -> None:
    Path("empty").mkdir()
    Path("empty/run.json").write_text("{}")
    outcome = run("compare", "empty")
    assert outcome.code == 2
    assert "empty holds no finished run: summary.json is missing" in outcome.err


def test_recipes_are_listed_and_printed_as_their_own_files(run: Run) -> None:
    assert "cifar100-resnet110" in run("recipes").out
    Path("printed.yaml").write_text(run("recipes", "imagenet-resnet50").out)
    outcome = run("train", "--recipe", "printed.yaml", "--set", "data.root=nowhere")
    assert outcome.code == 2
    assert "nowhere" in outcome.err
    assert "no recipe 'imagenet-resnet5'" in run("recipes", "imagenet-resnet5").err


def test_tables_show_the_published_figures(run: Run) -> None:
    assert "compcars" in run("reproduce").out
    table = run("reproduce", "cifar100", "--row", "resnet110").out
    assert [line.split()[1:3] for line in table.splitlines()[1:]] == [["plain", "24.10"], ["ABN", "22.50"]]
    wrong = run("reproduce", "cifar100", "--row", "resnet20")
    assert wrong.code == 2
    assert "no cell of row 'resnet20'" in wrong.err


def test_a_cell_is_trained_and_shown_beside_the_published_figure(run: Run, image_folder: Path) -> None:
    changes = [f"data.data={image_folder}", "data.image_size=16", "epochs=1", "batch_size=4"]
    small = [*changes, "model.name=abn_cifar_resnet8"]
    cell = ("reproduce", "cifar100", "--row", "resnet110", "--column", "ABN", "--out", "tables")
    outcome = run(*cell, "--run", *[part for change in small for part in ("--set", change)])
    assert outcome.code == 0, outcome.err
    shown = run(*cell).out.splitlines()[-1]
    assert shown.split()[2] == "22.50"
    assert (
        float(shown.split()[3])
        == 100 - json.loads(Path("tables/cifar100/resnet110_abn/summary.json").read_text())["test_top1"]
    )
    assert "changed:" in shown
