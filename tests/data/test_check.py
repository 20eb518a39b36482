import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.data import DataReport, check_data
from tests.data._files import CARS, replace_line, truncate, write_celeba, write_compcars, write_picture
from tests.data.test_datasets import write_cifar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            for number in range(count):
                write_picture(tmp_path / split / name / f"{number}.png")
    return tmp_path


def found(report: DataReport, kind: str) -> list[str]:
    return [line.message for line in report.problems + report.notes if line.kind == kind]


def test_a_sound_folder_has_no_problem(folder: Path) -> None:
    report = check_data("image-folder", folder, tiny=3)
    assert report.problems == report.notes == []
    assert report.counts == {"train": {"ant": 3, "bee": 3}, "test": {"ant": 2, "bee": 2}}
    assert report.images == {"train": 6, "test": 4}
    assert json.loads(json.dumps(report.to_dict()))["counts"] == report.counts


@pytest.mark.parametrize("workers", [1, 3])
def test_unreadable_images_are_found_by_decoding(folder: Path, workers: int) -> None:
    paths = [folder / "train" / "bee" / "0.png", folder / "test" / "ant" / "1.png"]
    truncate(paths[0])
    paths[1].write_bytes(b"")
    with Image.open(paths[0]) as image:  # the header is whole
        assert image.size == (18, 22)
    report = check_data("image-folder", folder, workers=workers)
    messages = found(report, "unreadable")
    assert len(messages) == len(report.problems) == 2
    assert all(str(path) in message for path, message in zip(paths, messages, strict=True))
    assert report.images == {"train": 5, "test": 3}


def test_a_picture_in_two_splits_or_classes_is_found_by_its_pixels(folder: Path) -> None:
    source = Image.open(folder / "train" / "ant" / "0.png")
    source.save(folder / "test" / "bee" / "other.bmp")  # another file of the same pixels
    source.save(folder / "train" / "bee" / "twin.png", compress_level=1)
    source.save(folder / "train" / "ant" / "again.png")
    report = check_data("image-folder", folder)
    (leak,), (conflict,), (repeated,) = (found(report, kind) for kind in ("leak", "conflict", "repeated"))
    assert "other.bmp" in leak
    assert "in train, the other in test" in leak
    assert "twin.png" in conflict
    assert "one is ant, the other bee" in conflict
    assert "0.png" in repeated
    assert [problem.kind for problem in report.problems] == ["conflict", "leak"]


def test_the_layout_is_checked(folder: Path) -> None:
    (folder / "train" / "cat").mkdir()
    write_picture(folder / "test" / "dog" / "0.png")
    write_picture(folder / "train" / "stray.png")
    messages = found(check_data("image-folder", folder), "layout")
    assert len(messages) == 3
    for part in ("no image in cat", "unknown classes dog", "stray.png' lies outside"):
        assert any(part in message for message in messages)
    assert found(check_data("image-folder", folder / "nowhere"), "layout") == [
        f"image folder '{folder / 'nowhere'}' does not exist: expected a folder of class folders"
    ]


def test_tiny_and_absent_classes_are_noted(folder: Path) -> None:
    write_picture(folder / "train" / "cat" / "0.png")
    report = check_data("image-folder", folder, tiny=3)
    assert found(report, "tiny") == ["fewer than 3 training images: cat (1)"]
    assert found(report, "absent") == ["no test image: cat"]
    assert not report.problems


def test_one_folder_without_splits_is_read_once(folder: Path) -> None:
    report = check_data("image-folder", folder / "train")
    assert report.images == {"train": 6}
    assert not report.problems
    assert "same images serve both splits" in found(report, "absent")[0]


def test_the_official_validation_split_is_checked_too(folder: Path) -> None:
    shutil.copytree(folder / "test", folder / "val")
    report = check_data("image-folder", folder)
    assert report.images == {"train": 6, "validation": 4, "test": 4}
    assert [problem.kind for problem in report.problems] == ["leak"] * 4


def test_modes_are_noted_and_those_without_a_form_in_rgb_are_problems(folder: Path) -> None:
    train = folder / "train" / "ant"
    pixels = np.arange(400, dtype=np.uint8).reshape(20, 20)
    Image.fromarray(pixels).save(train / "grey.png")
    Image.fromarray(np.stack([pixels] * 4, 2), "CMYK").save(train / "cmyk.jpg")
    Image.fromarray(pixels.astype(np.float32)).save(train / "float.tif")
    report = check_data("image-folder", folder)
    assert [message.split(":")[0] for message in found(report, "mode")] == [
        "1 images in mode CMYK, read as RGB",
        "1 images in mode L, read as RGB",
    ]
    assert len(report.problems) == 1
    assert "float.tif" in found(report, "unreadable")[0]


def test_lists_are_checked_line_by_line(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    (tmp_path / "image" / CARS["train"][1]).unlink()
    truncate(tmp_path / "image" / CARS["test"][0])
    replace_line(tmp_path / "train_test_split" / "classification" / "test.txt", 2, "5/20/2011")
    report = check_data("compcars-models", tmp_path)
    assert len(found(report, "layout")) == 2
    assert len(found(report, "unreadable")) == 1
    assert report.counts["train"] == {"3": 1, "20": 1, "1001": 1}


def test_attributes_are_counted(tmp_path: Path) -> None:
    values = write_celeba(tmp_path)
    report = check_data("celeba", tmp_path)
    assert list(report.counts["train"].values()) == (values[[0, 1, 2, 5]] > 0).sum(0).tolist()
    assert not report.problems


def test_images_in_memory_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels = write_cifar(tmp_path, "cifar10", monkeypatch)["train"]
    report = check_data("cifar10", tmp_path)
    assert not report.problems
    assert report.images == {"train": 30, "test": 6}
    assert list(report.counts["train"].values()) == np.bincount(labels, minlength=10).tolist()
    assert "is not in" in found(check_data("cifar10", tmp_path / "nowhere"), "layout")[0]


def test_what_cannot_be_checked_is_told(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"'mnist' is unknown.*cifar10"):
        check_data("mnist", tmp_path)
    with pytest.raises(AbnFastError, match="digits-in-the-wild has no files"):
        check_data("digits-in-the-wild", tmp_path)
