from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import create_model
from abn_fast._errors import AbnFastError
from abn_fast.explain import (
    class_evidence_sheet,
    explain,
    explain_images,
    method_sheet,
    methods_of,
    task_sheet,
    tile_sheet,
    top_class_evidence,
    write_class_evidence_sheets,
    write_method_sheets,
    write_task_sheets,
)
from tests.export._networks import small
from tests.export._trained import CLASSES, SEEN, save_pictures, trained

SIDE = 56
HEIGHT = 48  # of tiles of SEEN's 24 x 28


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return sorted(save_pictures(tmp_path / "pictures", range(3)).iterdir())


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The rows and headings that sheets are made of."""
    seen: dict[str, Any] = {}

    def record(rows: Any, headings: Any = ()) -> Image.Image:
        seen.update(rows=rows, headings=headings)
        return tile_sheet(rows, headings)

    monkeypatch.setattr("abn_fast.explain.sheets.tile_sheet", record)
    return seen


def laid_over(image: Path, maps: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tile of a picture half covered by the colours of a map in [0, 1] of its size."""
    base = np.asarray(Image.open(image).resize((SIDE, HEIGHT))).astype(float)
    laid: np.ndarray[Any, Any] = (base + 255 * matplotlib.colormaps["jet"](maps.numpy())[..., :3]) / 2
    return laid


def input_of(path: Path) -> torch.Tensor:
    return SEEN(Image.open(path))[None]


def test_a_row_holds_the_image_and_each_methods_map(pictures: list[Path], tiles: dict[str, Any]) -> None:
    model = trained()
    method_sheet(model, pictures, SEEN, CLASSES, tile=SIDE)
    assert tiles["headings"] == ["image", "ABN attention", "class evidence", "CAM", "Grad-CAM", "Grad-CAM++"]
    assert len(tiles["rows"]) == 3
    for path, row in zip(pictures, tiles["rows"], strict=True):
        with torch.no_grad():
            confidence, index = model(input_of(path)).logits[0].softmax(0).max(0)
        assert row[0].caption == f"{CLASSES[int(index)]} {float(confidence):.0%}"
        assert np.array_equal(np.asarray(row[0].picture), np.asarray(Image.open(path).resize((SIDE, HEIGHT))))
        for method, tile in zip(methods_of(model), row[1:], strict=True):
            small_map = explain(model, input_of(path), method=method, mode="nearest")
            rows = torch.linspace(0, 23, HEIGHT).round().long()
            columns = torch.linspace(0, 27, SIDE).round().long()
            large = small_map[0][rows][:, columns]
            large = (large - large.min()) / (large.max() - large.min())
            shown = np.asarray(tile.picture).astype(float)
            # another resampling of the same map: alike, not equal
            assert np.corrcoef(shown.ravel(), laid_over(path, large).ravel())[0, 1] > 0.85, method


def test_the_pixels_of_a_tile_are_the_maps_colours_over_the_image(pictures: list[Path], tiles: dict[str, Any]) -> None:
    method_sheet(trained(), pictures[:1], SEEN, CLASSES, ["abn"], tile=SIDE)
    with torch.no_grad():
        attention = trained()(input_of(pictures[0])).attention
    large = torch.nn.functional.interpolate(attention, (HEIGHT, SIDE), mode="bilinear")[0, 0]
    expected = laid_over(pictures[0], (large - large.min()) / (large.max() - large.min()))
    difference = np.abs(np.asarray(tiles["rows"][0][1].picture) - expected)
    assert np.mean(difference > 3) < 0.005


def test_the_likeliest_classes_have_a_tile_each_on_one_scale(pictures: list[Path], tiles: dict[str, Any]) -> None:
    class_evidence_sheet(trained(), pictures[1:2], SEEN, CLASSES, count=5, tile=SIDE)
    classes, confidences, maps = top_class_evidence(trained(), input_of(pictures[1]), 3, size=(HEIGHT, SIDE))
    [[image, *shown]] = tiles["rows"]
    assert image.caption == ""
    expected = [f"{CLASSES[int(k)]} {float(p):.0%}" for k, p in zip(classes[0], confidences[0], strict=True)]
    assert [tile.caption for tile in shown] == expected
    for tile, values in zip(shown, maps[0], strict=True):
        difference = np.abs(np.asarray(tile.picture) - laid_over(pictures[1], values))
        assert np.mean(difference > 3) < 0.005


def test_tasks_follow_their_image_and_wrap(pictures: list[Path], tiles: dict[str, Any]) -> None:
    model, _ = small("tasks-cifar_resnet")
    names = ["smiling", "hat", "beard"]
    task_sheet(model, pictures[:2], SEEN, names, columns=3, tile=SIDE)
    assert [len(row) for row in tiles["rows"]] == [3, 1, 3, 1]
    with torch.no_grad():
        output = model(input_of(pictures[1]))
    shares, answers = output.logits[0].softmax(1).max(1)
    captions = [tile.caption for row in tiles["rows"][2:] for tile in row]
    expected = [
        f"{name}: {'yes' if y else 'no'} {p:.0%}"
        for name, y, p in zip(names, answers.tolist(), shares.tolist(), strict=True)
    ]
    assert captions == ["0001.png", *expected]
    large = torch.nn.functional.interpolate(output.attention, (HEIGHT, SIDE), mode="bilinear")[0, 2]
    laid = laid_over(pictures[1], (large - large.min()) / (large.max() - large.min()))
    assert np.mean(np.abs(np.asarray(tiles["rows"][3][0].picture) - laid) > 3) < 0.005


def test_what_a_sheet_cannot_show_is_refused(pictures: list[Path]) -> None:
    tasks, _ = small("tasks-cifar_resnet")
    plain, _ = small("plain-cifar_resnet8")
    model = trained()
    for call, message in (
        (lambda: method_sheet(tasks, pictures, SEEN, CLASSES), "3 tasks and a map for each; use task_sheet"),
        (lambda: task_sheet(model, pictures, SEEN, CLASSES), "has classes and no tasks; use method_sheet"),
        (lambda: method_sheet(model, pictures, SEEN, ["a"]), "1 names for a model of 3 classes"),
        (lambda: task_sheet(tasks, pictures, SEEN, ["a"]), "1 names for a model of 3 tasks"),
        (lambda: class_evidence_sheet(model, pictures, SEEN, ["a"]), "1 names for a model of 3 classes"),
        (lambda: class_evidence_sheet(plain, pictures, SEEN, CLASSES), "plain classifier without attention branch"),
        (lambda: class_evidence_sheet(model, pictures, SEEN, CLASSES, 0), "count=0"),
        (lambda: method_sheet(model, pictures, SEEN, CLASSES, tile=3), "tile=3: expected 16 pixels"),
        (lambda: method_sheet(model, [*pictures, "nowhere.png"], SEEN, CLASSES), "nowhere.png"),
        (lambda: method_sheet(model, [], SEEN, CLASSES), "expected one or more pictures"),
        (lambda: task_sheet(tasks, pictures, SEEN, CLASSES, columns=0), "columns=0"),
    ):
        with pytest.raises(AbnFastError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_sheet_files_are_named_after_their_images(pictures: list[Path], tmp_path: Path) -> None:
    out, tasks = tmp_path / "out", small("tasks-cifar_resnet")[0]
    written = [
        *write_method_sheets(trained(), pictures * 8, SEEN, CLASSES, out, ["abn"]),
        *write_class_evidence_sheets(trained(), pictures[:2], SEEN, CLASSES, out),
        *write_task_sheets(tasks, pictures[:1], SEEN, CLASSES, out),
        *write_task_sheets(tasks, pictures[:1], SEEN, CLASSES, out, "cam"),
    ]
    names = ["methods", "methods-2", "0000-classes", "0001-classes", "0000-tasks", "0000-cam-tasks"]
    assert written == [out / f"{name}.png" for name in names]
    assert sorted(out.iterdir()) == sorted(written)
    heights = [len(np.asarray(Image.open(file))) for file in written[:2]]
    assert heights[0] - heights[1] == 16 * (round(160 * 24 / 28) + 22)  # 20 images with captions, and the other 4
    assert len({file.read_bytes() for file in written}) == 6


def test_a_sheet_does_not_replace_an_image(pictures: list[Path], tmp_path: Path) -> None:
    image = pictures[0].rename(tmp_path / "methods.png")
    before = image.read_bytes()
    with pytest.raises(AbnFastError, match=r"would overwrite the image .*methods\.png"):
        list(write_method_sheets(trained(), [image], SEEN, CLASSES, tmp_path))
    assert image.read_bytes() == before


def test_every_method_has_a_map_and_an_overlay_of_its_own(pictures: list[Path], tmp_path: Path) -> None:
    methods = ["gradcam", "abn", "gradcam++"]
    [one] = explain_images(trained(), pictures[:1], SEEN, CLASSES, tmp_path / "out", methods=methods)
    kinds = ["image", "gradcam", "gradcam-overlay", "attention", "overlay", "gradcam++", "gradcam++-overlay"]
    assert one.files == tuple(tmp_path / "out" / f"0000-{kind}.png" for kind in kinds)
    [alone] = explain_images(trained(), pictures[:1], SEEN, CLASSES, tmp_path / "abn")
    assert [file.read_bytes() for file in alone.files] == [one.files[i].read_bytes() for i in (0, 3, 4)]
    maps = explain(trained(), input_of(pictures[0]), method="gradcam")[0]  # the picture has the size of the input
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    colours = 255 * matplotlib.colormaps["jet"](maps.numpy())[..., :3]
    assert np.mean(np.abs(np.asarray(Image.open(one.files[1])) - colours) > 3) < 0.005
    for file, kind in zip(one.files, kinds, strict=True):
        with Image.open(file) as written:
            assert ("Label" in written.text) == kind.endswith("overlay")  # type: ignore[attr-defined]  # PNG


def test_a_plain_network_is_explained_by_what_can_serve_it(pictures: list[Path], tmp_path: Path) -> None:
    model = create_model("cifar_resnet8", num_classes=3, width=4)
    [one] = explain_images(model, pictures[:1], SEEN, CLASSES, tmp_path, methods=["cam"])
    assert one.files[1].name == "0000-cam.png"
    with pytest.raises(AbnFastError, match="without attention map; use an abn_ model; cam, gradcam"):
        list(explain_images(model, pictures[:1], SEEN, CLASSES, tmp_path))
    with pytest.raises(AbnFastError, match="method='x'; expected one of 'abn'"):
        list(explain_images(model, pictures[:1], SEEN, CLASSES, tmp_path, methods=["x"]))
