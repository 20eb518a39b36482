from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import CelebA, Preprocessing, UnreadableImageError, create_dataset, dataset_info
from tests.data._files import ATTRIBUTES, replace_line, truncate, write_celeba, write_lines

SMALL = Preprocessing((22, 18), (0.0,) * 3, (1.0,) * 3)


def test_forty_attributes_are_ones_and_zeros(tmp_path: Path) -> None:
    values = write_celeba(tmp_path)
    training = create_dataset("celeba", "train", tmp_path, preprocessing=SMALL)
    test = create_dataset("celeba", "test", tmp_path)
    assert training.classes == ATTRIBUTES
    assert training.num_classes == dataset_info("celeba").num_classes == 40
    assert training.task == dataset_info("celeba").task == "multi-label"
    assert np.array_equal(training.labels.numpy(), values[[0, 1, 2, 5]] > 0)
    assert np.array_equal(test.labels.numpy(), values[[3, 4]] > 0)
    images, targets = next(iter(DataLoader(training, batch_size=3)))
    assert images.shape == (3, 3, 22, 18)
    assert targets.dtype == torch.float32
    assert torch.equal(targets, training.labels[:3])
    assert test[0][0].shape == (3, 224, 224)


def test_the_official_validation_part_is_held_out(tmp_path: Path) -> None:
    values = write_celeba(tmp_path)
    training, validation, test = (
        create_dataset("celeba", split, tmp_path, validation="official") for split in ("train", "validation", "test")
    )
    assert isinstance(validation, CelebA)
    assert [path.name for path in validation.paths] == ["000003.jpg"]
    assert np.array_equal(validation.labels.numpy(), values[[2]] > 0)
    assert np.array_equal(training.labels.numpy(), values[[0, 1, 5]] > 0)
    assert len(test) == 2
    assert validation.official_validation.tolist() == [True]


def test_agrees_with_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_celeba(tmp_path / "celeba")
    write_landmarks(tmp_path / "celeba", 6)
    write_boxes(tmp_path / "celeba", 6)
    write_lines(tmp_path / "celeba" / "identity_CelebA.txt", [f"{number:06d}.jpg {number}" for number in range(1, 7)])
    monkeypatch.setattr(datasets.CelebA, "_check_integrity", lambda self: True)  # its sums are of the real files
    theirs = datasets.CelebA(tmp_path, split="test", target_type=["attr", "landmarks", "bbox"])
    ours = CelebA("test", tmp_path)
    assert [path.name for path in ours.paths] == theirs.filename
    assert torch.equal(ours.labels, theirs.attr.float())
    assert ours.landmarks is not None
    assert torch.equal(ours.landmarks.flatten(1), theirs.landmarks_align)
    assert ours.face_boxes is not None
    assert torch.equal(ours.face_boxes, theirs.bbox)


def write_landmarks(root: Path, count: int) -> None:
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    rows = [f"{n:06d}.jpg " + "  ".join(str(10 * n + k) for k in range(10)) for n in range(1, count + 1)]
    write_lines(root / "list_landmarks_align_celeba.txt", [str(count), columns, *rows])


def write_boxes(root: Path, count: int) -> None:
    rows = [f"{n:06d}.jpg    {n}  {n + 1} {n + 2} -{n + 3}" for n in range(1, count + 1)]
    write_lines(root / "list_bbox_celeba.txt", [str(count), "image_id x_1 y_1 width height", *rows])


def test_landmarks_and_boxes_are_read_where_they_are(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    assert CelebA("train", tmp_path).landmarks is None
    assert CelebA("train", tmp_path).face_boxes is None
    write_landmarks(tmp_path, 6)
    write_boxes(tmp_path, 6)
    test = CelebA("test", tmp_path)  # images 4 and 5
    assert test.landmarks is not None
    assert test.face_boxes is not None
    assert test.landmarks[1].tolist() == [[50, 51], [52, 53], [54, 55], [56, 57], [58, 59]]
    assert test.face_boxes.tolist() == [[4, 5, 6, -7], [5, 6, 7, -8]]
    last = test.select([1])
    assert last.landmarks is not None
    assert last.landmarks.shape == (1, 5, 2)
    assert last.face_boxes is not None
    assert last.face_boxes[0, 0] == 5


def test_the_folders_of_the_archive_are_found(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    homes = {"img_align_celeba": "Img", "list_attr_celeba.txt": "Anno", "list_eval_partition.txt": "Eval"}
    for file, folder in homes.items():
        (tmp_path / folder).mkdir()
        (tmp_path / file).rename(tmp_path / folder / file)
    assert len(CelebA("train", tmp_path)) == 4


def test_augmentation_mirrors_and_does_not_crop(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    plain = CelebA("train", tmp_path, preprocessing=SMALL)
    augmented = CelebA("train", tmp_path, preprocessing=SMALL, augment=True)
    mirrored = []
    for epoch in range(20):
        augmented.set_epoch(epoch)
        for index in range(4):
            image, target = augmented[index]
            mirrored.append(torch.equal(image, plain[index][0].flip(-1)))
            assert mirrored[-1] or torch.equal(image, plain[index][0])
            assert torch.equal(target, plain.labels[index])
    assert 20 < sum(mirrored) < 60


def fails(root: Path, *parts: str) -> None:
    with pytest.raises(AbnFastError) as error:
        CelebA("train", root)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere' does not exist", "img_align_celeba")
    fails(tmp_path, "has no img_align_celeba")
    write_celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").unlink()
    fails(tmp_path, "has no list_eval_partition.txt")
    (tmp_path / "list_attr_celeba.txt").unlink()
    fails(tmp_path, "has no list_attr_celeba.txt")


def test_a_list_that_names_a_missing_image_is_told_with_the_line(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000002.jpg").unlink()
    fails(tmp_path, "list_attr_celeba.txt', line 4", "000002.jpg' does not exist")


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("list_attr_celeba.txt", 1, "many", "expected the number of images"),
        ("list_attr_celeba.txt", 1, "7", "announces 7 images and has 6 rows"),
        ("list_attr_celeba.txt", 5, "000003.jpg " + "1 " * 39, "line 5: 000003.jpg has 39 values, expected 40"),
        (
            "list_attr_celeba.txt",
            5,
            "000003.jpg 0 " + "1 " * 39,
            "line 5: 000003.jpg has the value '0', expected -1 or 1",
        ),
        ("list_attr_celeba.txt", 5, "000001.jpg " + "1 " * 40, "line 5: 000001.jpg stands in line 3 too"),
        ("list_eval_partition.txt", 2, "000002.jpg 3", "line 2: 000002.jpg has the value '3', expected 0 or 1 or 2"),
        ("list_eval_partition.txt", 2, "000002.jpg", "line 2: 000002.jpg has 0 values, expected 1"),
        ("list_eval_partition.txt", 2, "000009.jpg 0", "line 4: 000002.jpg is not in"),
    ],
)
def test_a_malformed_line_is_told(file: str, line: int, text: str, message: str, tmp_path: Path) -> None:
    write_celeba(tmp_path)
    replace_line(tmp_path / file, line, text)
    fails(tmp_path, file, message)


def test_landmarks_that_are_not_of_these_images_are_told(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    write_landmarks(tmp_path, 5)
    fails(tmp_path, "list_landmarks_align_celeba.txt' has no row of 000006.jpg")


def test_all_problems_can_be_collected(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000001.jpg").unlink()
    replace_line(tmp_path / "list_attr_celeba.txt", 4, "000002.jpg 1")
    problems: list[str] = []
    dataset = CelebA("train", tmp_path, report=problems.append)
    assert [path.name for path in dataset.paths] == ["000003.jpg", "000006.jpg"]
    assert len(problems) == 4  # the row, the count, the image, and the partition's row without attributes


def test_a_truncated_image_is_named_in_the_error(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    truncate(tmp_path / "img_align_celeba" / "000002.jpg")
    with pytest.raises(UnreadableImageError, match=r"000002\.jpg"):
        CelebA("train", tmp_path)[1]
