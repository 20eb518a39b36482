from pathlib import Path
from typing import Any

import pytest

from abn_fast import create_model, save_checkpoint
from tests.cli.conftest import Run
from tests.export._trained import CLASSES, SEEN, save_pictures, trained


@pytest.fixture
def files(run: Run, tmp_path: Path) -> None:
    """abn, plain and tasks.safetensors and three pictures in the folder in which commands run."""
    model: Any = trained()
    save_checkpoint(model, tmp_path / "abn.safetensors", preprocessing=SEEN, classes=CLASSES, metrics={"epoch": 3})
    for name in ("cifar_resnet8", "multi_task_abn_cifar_resnet8"):
        network: Any = create_model(name, num_classes=3, width=4)
        kind = "tasks" if name.startswith("multi") else "plain"
        save_checkpoint(network, tmp_path / f"{kind}.safetensors", preprocessing=SEEN, classes=CLASSES)
    save_pictures(tmp_path / "in", range(3))


def written(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_methods_sheet_and_classes_are_written_beside_each_other(run: Run, files: None) -> None:
    arguments = (
        "explain",
        "abn.safetensors",
        "in/0000.png",
        "in/0001.png",
        "--methods",
        "abn, gradcam",
        "--out",
        "out",
    )
    outcome = run(*arguments, "--sheet", "--classes", 2, "--mode", "bicubic", "--colormap", "viridis")
    assert outcome.code == 0, outcome.err
    kinds = ["attention", "classes", "gradcam-overlay", "gradcam", "image", "overlay"]
    assert written("out") == sorted([f"000{i}-{kind}.png" for i in (0, 1) for kind in kinds] + ["methods.png"])
    assert "in/0001.png: green " in outcome.out
    for name in written("out"):
        if name.endswith(("methods.png", "classes.png")):
            assert f"-> out/{name}" in outcome.out


def test_all_methods_of_a_plain_network(run: Run, files: None) -> None:
    outcome = run("explain", "plain.safetensors", "in/0002.png", "--methods", "all", "--out", "out")
    assert outcome.code == 0, outcome.err
    assert len(written("out")) == 7
    refused = run("explain", "plain.safetensors", "in/0002.png")
    assert refused.code == 2
    assert "without attention map; use an abn_ model; cam, gradcam, gradcam++ can serve this one" in refused.err
    assert refused.err.count("\n") == 1


def test_a_multi_task_network_gets_a_map_a_task(run: Run, files: None) -> None:
    outcome = run("explain", "tasks.safetensors", "in/0000.png", "in/0002.png", "--methods", "abn,cam", "--out", "out")
    assert outcome.code == 0, outcome.err
    assert written("out") == ["0000-cam-tasks.png", "0000-tasks.png", "0002-cam-tasks.png", "0002-tasks.png"]
    refused = run("explain", "tasks.safetensors", "in/0000.png", "--sheet")
    assert refused.code == 2
    assert "leave out --sheet and --classes" in refused.err


def test_a_sheet_shows_the_images_that_can_be_read(run: Run, files: None) -> None:
    outcome = run("explain", "abn.safetensors", "in/0000.png", "no.png", "--sheet", "--out", "out")
    assert outcome.code == 2
    assert "no.png" in outcome.err
    assert "methods.png" in written("out")


def test_a_gif_over_checkpoints(run: Run, files: None) -> None:
    outcome = run("animate", "abn.safetensors", "abn.safetensors", "--image", "in/0000.png", "--out", "out/map.gif")
    assert outcome.code == 0, outcome.err
    assert "2 checkpoints, 1 images -> out/map.gif" in outcome.out
    assert written("out") == ["map.gif"]
    assert Path("out/map.gif").read_bytes().startswith(b"GIF8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "lime"), "method='lime'; expected one of 'abn'"),
        (("--classes", 0), "count=0: expected 1 to 3"),
        (("--mode", "lanczos"), "lanczos"),
        (("--colormap", "nope"), "colour map 'nope'"),
    ],
)
def test_an_option_that_is_none_is_one_line(run: Run, files: None, options: tuple[object, ...], message: str) -> None:
    outcome = run("explain", "abn.safetensors", "in/0000.png", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
