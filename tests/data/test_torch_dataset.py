from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from abn_fast._errors import AbnFastError
from abn_fast.data import IMAGENET, ImageFolder, Preprocessing, SkipUnreadable, UnreadableImageError, as_image_dataset
from tests.data._files import truncate, write_picture

PLAIN = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Pictures(Dataset[Any]):
    """PIL pictures with labels that only reading tells."""

    reads = 0

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return Image.fromarray(np.full((10, 20, 3), 40 * index, np.uint8)), index % 2


def test_tensors_are_taken_as_they_are() -> None:
    dataset = as_image_dataset(TensorDataset(IMAGES, torch.arange(6) % 3), PLAIN, ["a", "b", "c"])
    assert len(dataset) == 6
    image, label = dataset[4]
    assert torch.equal(image, IMAGES[4])
    assert label == 1
    assert isinstance(label, int)
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.task == "single-label"
    assert dataset.preprocessing == PLAIN


def test_attributes_stay_attributes() -> None:
    attributes = (torch.arange(6)[:, None] >> torch.arange(3)) & 1
    dataset = as_image_dataset(TensorDataset(IMAGES, attributes), PLAIN, ["a", "b", "c"])
    assert dataset.task == "multi-label"
    assert torch.equal(dataset[5][1], torch.tensor([1.0, 0, 1]))
    assert torch.equal(dataset.labels, attributes.float())


def test_pictures_are_preprocessed_and_augmented() -> None:
    source = Pictures()
    plain = as_image_dataset(source, PLAIN, ["even", "odd"])
    assert torch.equal(plain[3][0], PLAIN(source[3][0]))
    ramp = [(Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20).repeat(3).reshape(10, 20, 3)), 0)]
    augmented = as_image_dataset(ramp, PLAIN, ["a"], augment=True, augmentation_seed=1)  # type: ignore[arg-type]  # a list serves
    again = as_image_dataset(ramp, PLAIN, ["a"], augment=True, augmentation_seed=1)  # type: ignore[arg-type]  # likewise
    first = augmented[0][0]
    assert torch.equal(first, again[0][0])
    augmented.set_epoch(1)
    assert not torch.equal(augmented[0][0], first)


def test_labels_are_read_only_when_asked_for() -> None:
    source = Pictures()
    dataset = as_image_dataset(source, PLAIN, ["even", "odd"])
    assert source.reads == 0
    assert dataset.task == "single-label"
    assert source.reads == 1
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0]
    part = dataset.select([3, 4])
    assert part.labels.tolist() == [1, 0]
    assert part[0][1] == 1


def test_torchvisions_data_sets_bring_classes_and_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for number in range(4):
        write_picture(tmp_path / "ab"[number % 2] / f"{number}.png")
    theirs = datasets.ImageFolder(tmp_path)
    ours, own = as_image_dataset(theirs, IMAGENET), ImageFolder("train", tmp_path)
    assert ours.classes == ["a", "b"]
    assert ours.labels.tolist() == [0, 0, 1, 1]
    assert all(torch.equal(ours[index][0], own[index][0]) for index in range(4))
    assert as_image_dataset(own) is own
    truncate(Path(theirs.samples[1][0]))
    with pytest.raises(UnreadableImageError, match="sample 1 of ImageFolder cannot be read"):
        ours[1]
    assert torch.equal(SkipUnreadable(ours, at_most=1)[1][0], ours[2][0])


def fails(dataset: Any, message: str, *arguments: Any) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        as_image_dataset(dataset, *arguments)[0]
    assert "\n" not in str(error.value)


def test_what_is_missing_is_told() -> None:
    tensors = TensorDataset(IMAGES, torch.arange(6))
    fails(iter([]), "list_iterator has no length", PLAIN, ["a"])
    fails(tensors, "TensorDataset does not say how its images are preprocessed")
    fails(tensors, "TensorDataset does not name its classes", PLAIN)


def test_a_sample_of_another_kind_is_told() -> None:
    fails(TensorDataset(IMAGES), r"sample 0 of TensorDataset is tuple: expected a pair", PLAIN, ["a"])
    fails(TensorDataset(IMAGES[:, 0], torch.arange(6)), r"is torch.float32 \[8, 8\]: expected", PLAIN, ["a"])
    fails(TensorDataset(IMAGES.byte(), torch.arange(6)), r"is torch.uint8 \[3, 8, 8\]: expected", PLAIN, ["a"])
    fails([("picture.png", 0)], "is str: expected a PIL picture", PLAIN, ["a"])


def test_a_label_out_of_range_is_told() -> None:
    dataset = as_image_dataset(TensorDataset(IMAGES, torch.arange(6)), PLAIN, ["a", "b"])
    with pytest.raises(AbnFastError, match="label of sample 2 is 2: expected 0 to 1"):
        dataset.labels  # noqa: B018  # reading them is the point
