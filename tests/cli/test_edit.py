"""`abn-fast edit`: the map out, a changed map in, and what is refused; `abn-fast train --edited-maps`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abn_fast import save_checkpoint
from abn_fast.data import Preprocessing
from tests.cli.conftest import Run
from tests.export._networks import small

SEEN = Preprocessing((20, 20), (0.5,) * 3, (0.25,) * 3, crop_pct=0.875)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(small("abn-cifar_resnet8")[0], path, preprocessing=SEEN, classes=["cat", "dog", "owl"])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return path


def columns(text: str) -> dict[str, tuple[float, float]]:
    rows = re.findall(r"^(\w+)\s+([\d.]+)%\s+([\d.]+)%$", text, re.MULTILINE)
    return {name: (float(before), float(after)) for name, before, after in rows}


def test_a_map_is_written_edited_and_changes_the_prediction(run: Run, checkpoint: Path) -> None:
    written = run("edit", checkpoint, "image.png", "--save-map", "map.png")
    assert written.code == 0, written.err
    picture = Image.open("map.png")
    assert picture.size == (60, 40)
    same = run("edit", checkpoint, "image.png", "--map", "map.png")
    assert same.code == 0, same.err
    assert set(columns(same.out)) == {"cat", "dog", "owl"}
    assert all(abs(before - after) < 0.5 for before, after in columns(same.out).values())

    inverted = Image.fromarray(255 - np.asarray(picture.getchannel("L"))).convert("RGB")  # as painters save grey
    inverted.save("inverted.png")
    edited = run("edit", checkpoint, "image.png", "--map", "inverted.png", "--top", "1")
    assert edited.code == 0, edited.err
    changed = columns(edited.out)
    assert any(abs(before - after) > 0.5 for before, after in changed.values())
    assert 1 <= len(changed) <= 2
    assert all(columns(same.out)[name][0] == before for name, (before, _) in changed.items())


def test_a_multi_task_network_wants_the_name_of_a_task(run: Run, checkpoint: Path) -> None:
    tasks = checkpoint.with_name("tasks.safetensors")
    save_checkpoint(small("tasks-cifar_resnet")[0], tasks, preprocessing=SEEN, classes=["smiling", "hat", "young"])
    assert run("edit", tasks, "image.png", "--save-map", "map.png", "--task", "hat").code == 0
    Image.new("L", (60, 40)).save("black.png")
    done = run("edit", tasks, "image.png", "--map", "black.png", "--task", "hat")
    assert done.code == 0, done.err
    changes = {name: after - before for name, (before, after) in columns(done.out).items()}
    assert changes["smiling"] == changes["young"] == 0 != changes["hat"]
    assert "expected one of smiling, hat, young" in run("edit", tasks, "image.png", "--map", "black.png").err
    assert "task='tie'; expected one of" in run("edit", tasks, "image.png", "--map", "m.png", "--task", "tie").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("image.png", "--map", "missing.png"), "map: image 'missing.png' does not exist"),
        (("image.png", "--map", "model.safetensors"), "corrupt or not a picture"),
        (("image.png", "--map", "small.png"), "map 'small.png' has 9x9 pixels (height x width); expected 10x10"),
        (("image.png", "--map", "coloured.png"), "is coloured; expected grey"),
        (("image.png", "--map", "high.npy"), "values in [0, 7]; expected numbers in [0, 1]"),
        (("model.safetensors", "--map", "small.png"), "image 'model.safetensors' is corrupt"),
        (("image.png", "--map", "small.png", "--task", "cat"), "--task cat: expected none"),
        (("image.png", "--save-map", "image.png"), "the map would overwrite the image"),
        (("image.png",), "give --save-map MAP.png to write the map, or --map MAP.png"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    run: Run, checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    Image.new("L", (9, 9)).save("small.png")
    Image.new("RGB", (60, 40), "red").save("coloured.png")
    np.save("high.npy", np.array([[0.0, 7.0]]))
    before = Path("image.png").read_bytes()
    refused = run("edit", checkpoint, *options)
    assert refused.code == 2
    assert message in refused.err
    if "give --save-map" not in message:
        assert refused.err.count("\n") == 1
    assert Path("image.png").read_bytes() == before


SETTINGS = ("--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01", "--device", "cpu", "--workers", "0")


def test_a_checkpoint_is_fine_tuned_on_a_folder_of_edited_maps(
    run: Run, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model.safetensors"
    save_checkpoint(small("abn-cifar_resnet8", classes=2)[0], weights, preprocessing=SEEN, classes=["bright", "dark"])
    maps = tmp_path / "maps" / "train" / "dark"
    maps.mkdir(parents=True)
    np.save(maps / "3.npy", np.ones((10, 10), np.float32))
    Image.new("L", (36, 40)).save(maps / "4.png")
    Image.new("L", (36, 40)).save(maps / "elsewhere.png")
    options = ("--weights", weights, "--data", image_folder, "--edited-maps", "maps", *SETTINGS)
    done = run("train", *options, "--map-loss-weight", "0.5", "--out", "tuned")
    assert done.code == 0, done.err
    belongs = str(Path("train", "dark", "elsewhere.png"))
    assert f"edited maps: 2 of 24 training images; {belongs} belong to none" in done.out
    settings = json.loads(Path("tuned/run.json").read_text())
    assert settings["training"]["loss"]["map_weight"] == 0.5
    assert settings["data"]["edited_maps"] == "maps"
    assert settings["data"]["preprocessing"] == SEEN.to_dict()  # the checkpoint's, not the folder's default

    plain = run("train", *options, "--map-loss-weight", "0", "--out", "plain")
    assert plain.code == 0, plain.err
    losses = [Path(name, "metrics.csv").read_text().splitlines()[1].split(",")[1] for name in ("tuned", "plain")]
    assert float(losses[0]) > float(losses[1])  # the distance counts

    again = run("train", "--resume", "tuned", "--device", "cpu", "--workers", "0")
    assert again.code == 0, again.err


def test_edited_maps_that_cannot_be_used_leave_no_run(run: Run, image_folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_checkpoint(small("abn-cifar_resnet8", classes=2)[0], weights, preprocessing=SEEN, classes=["bright", "dark"])
    options = (
        "train",
        "--weights",
        weights,
        "--data",
        image_folder,
        "--edited-maps",
        "maps",
        *SETTINGS,
        "--out",
        "run",
    )
    refused = run(*options)
    assert refused.code == 2
    assert "edited maps 'maps': no such folder" in refused.err
    assert refused.err.count("\n") == 1
    assert not Path("run").exists()
