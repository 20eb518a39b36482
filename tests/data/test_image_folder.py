import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import ImageFolder, Preprocessing, create_dataset


def write(*paths: Path, size: tuple[int, int] = (20, 10)) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 40 % 256, 100, 200)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write(*(tmp_path / split / name / f"{number}.png" for name in ("cat", "ant", "bee") for number in range(2)))
    return tmp_path


def test_reads_the_splits(root: Path) -> None:
    write(root / "train" / "bee" / "deeper" / "extra.JPG")
    (root / "train" / "bee" / "notes.txt").write_text("no picture")
    training, test = (ImageFolder(split, root) for split in ("train", "test"))
    assert training.classes == test.classes == ["ant", "bee", "cat"]
    assert training.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert [path.parent.name for path in test.paths] == ["ant", "ant", "bee", "bee", "cat", "cat"]
    assert test.paths[0].parent.parent.name == "val"
    assert test.boxes is None


def test_agrees_with_torchvision(root: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    ours, theirs = ImageFolder("train", root), datasets.ImageFolder(root / "train")
    assert [(str(path), label) for path, label in zip(ours.paths, ours.labels.tolist(), strict=True)] == theirs.samples
    assert ours.classes == theirs.classes


@pytest.mark.parametrize("name", ["val", "test", "valid"])
def test_the_test_split_has_three_names(root: Path, name: str) -> None:
    (root / "val").rename(root / name)
    assert ImageFolder("test", root).paths[0].parent.parent.name == name


def test_val_beside_test_is_the_official_validation_split(root: Path) -> None:
    shutil.copytree(root / "val", root / "test")
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        dataset = create_dataset("image-folder", split, root, validation="official")
        assert isinstance(dataset, ImageFolder)
        assert {path.parent.parent.name for path in dataset.paths} == {folder}
    assert ImageFolder("test", root).paths[0].parent.parent.name == "test"


def test_a_test_folder_without_classes_does_not_count(root: Path) -> None:
    write(root / "test" / "unlabelled.png")
    assert ImageFolder("test", root).paths[0].parent.parent.name == "val"
    fails(root, "no official validation split", split="validation", validation="official")


def test_one_folder_serves_either_split(root: Path) -> None:
    for split in ("train", "test"):
        dataset = ImageFolder(split, root / "val")
        assert len(dataset) == 6
        assert dataset.classes == ["ant", "bee", "cat"]


def test_labels_follow_the_training_classes(root: Path) -> None:
    for path in (root / "val" / "bee").iterdir():
        path.unlink()
    (root / "val" / "bee").rmdir()
    dataset = ImageFolder("test", root)
    assert dataset.classes == ["ant", "bee", "cat"]
    assert dataset.labels.tolist() == [0, 0, 2, 2]


def test_given_classes_set_the_labels(root: Path) -> None:
    dataset = create_dataset("image-folder", "test", root, classes=["cat", "dog", "bee", "ant"])
    assert isinstance(dataset, ImageFolder)
    assert dataset.classes == ["cat", "dog", "bee", "ant"]
    assert dataset.labels.tolist() == [3, 3, 2, 2, 0, 0]


def test_defaults_to_imagenets_preprocessing(root: Path) -> None:
    dataset = create_dataset("image-folder", "test", root)
    assert dataset.preprocessing == Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875)
    image, label = dataset[5]
    assert image.shape == (3, 224, 224)
    assert label == 2
    expected = (np.array([40, 100, 200]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # cat/1.png
    np.testing.assert_allclose(image.mean((1, 2)).numpy(), expected, atol=1e-5)


def test_training_images_have_the_preprocessings_size(root: Path) -> None:
    preprocessing = Preprocessing((12, 30), (0.5,), (0.5,), crop_pct=0.5)
    dataset = create_dataset("image-folder", "train", root, augment=True, preprocessing=preprocessing)
    images, labels = next(iter(DataLoader(dataset, batch_size=6)))
    assert images.shape == (6, 1, 12, 30)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64


def test_hidden_files_and_folders_are_left_out(root: Path) -> None:
    write(root / "train" / ".cache" / "a.png")
    (root / "train" / "ant" / "._0.png").write_bytes(b"resource fork")
    assert len(ImageFolder("train", root)) == 6


def fails(root: Path, *parts: str, split: str = "train", **arguments: object) -> None:
    with pytest.raises(AbnFastError) as error:
        create_dataset("image-folder", split, root, **arguments)  # type: ignore[arg-type]  # of any kind
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere' does not exist")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "picture.png")
    fails(tmp_path / "picture.png", "picture.png' is a file")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    fails(tmp_path, str(tmp_path), "no class folders")


def test_images_outside_class_folders_are_not_enough(tmp_path: Path) -> None:
    write(tmp_path / "picture.png")
    fails(tmp_path, str(tmp_path), "no class folders")


def test_a_class_without_images_is_named(root: Path) -> None:
    (root / "train" / "dog").mkdir()
    (root / "train" / "dog" / "notes.txt").write_text("none")
    fails(root, "no image in dog", ".png")


def test_a_missing_test_split_is_told(root: Path) -> None:
    (root / "val").rename(root / "holdout")
    fails(root, "none of test, val, valid", split="test")


def test_a_class_the_training_never_saw_is_named(root: Path) -> None:
    write(root / "val" / "dog" / "0.png")
    fails(root, "unknown classes dog", "ant, bee, cat", split="test")


def test_a_folder_has_nothing_to_download(root: Path) -> None:
    fails(root, "nothing to download", download=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named_in_the_error(root: Path, workers: int) -> None:
    path = root / "train" / "bee" / "1.png"
    write(path, size=(200, 200))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AbnFastError, match=r"bee/1\.png"):
        list(DataLoader(ImageFolder("train", root), batch_size=2, num_workers=workers))
