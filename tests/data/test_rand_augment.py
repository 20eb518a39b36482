from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from abn_fast.data import ImageDataset, RandAugment, SkipUnreadable, as_image_dataset
from abn_fast.data._random import random_bits
from tests.data.test_augmentation import PIXELS, PLAIN, global_states, in_folder, in_memory, loaded

v2 = pytest.importorskip("torchvision.transforms.v2")


class Pictures(torch.utils.data.Dataset):
    classes, preprocessing = ("a", "b"), PLAIN

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(PIXELS[index]), index % 2


def any_data_set(folder: Path) -> ImageDataset:
    return as_image_dataset(Pictures(), augment=True, crop=False)


def skipping(folder: Path) -> ImageDataset:
    return SkipUnreadable(in_folder(folder))


every = pytest.mark.parametrize("create", [in_memory, in_folder, any_data_set, skipping])


@every
def test_samples_depend_on_seed_epoch_and_index_alone(create: Callable[[Path], ImageDataset], tmp_path: Path) -> None:
    dataset = create(tmp_path)
    plain, _ = loaded(dataset)
    dataset.rand_augment = RandAugment(2, 9)
    before = global_states()
    images, _ = loaded(dataset, generator=torch.Generator())
    assert global_states() == before
    changed = [not torch.equal(a, b) for a, b in zip(images, plain, strict=True)]
    assert sum(changed) > 12  # of 24, if each of two operations is the identity in one of 14 cases
    torch.manual_seed(99)
    assert torch.equal(loaded(dataset, num_workers=1)[0], images)
    assert torch.equal(dataset[23][0], images[23])
    dataset.set_epoch(1)
    assert not torch.equal(loaded(dataset)[0], images)


def test_pictures_are_changed_as_torchvision_changes_them() -> None:
    ours, theirs, image = RandAugment(2, 15), v2.RandAugment(2, 15), Image.fromarray(PIXELS[0])
    for index in range(20):
        torch.manual_seed(int(random_bits("rand augment", 3, 1, rows=[index], columns=1)[0, 0]) >> 1)
        assert ours(image, 3, 1, index).tobytes() == theirs(image).tobytes()


def test_without_augmentation_nothing_is_changed(tmp_path: Path) -> None:
    dataset = in_memory(tmp_path)
    dataset.augment = False
    plain, _ = loaded(dataset)
    dataset.rand_augment = RandAugment(2, 9)
    assert torch.equal(loaded(dataset)[0], plain)
