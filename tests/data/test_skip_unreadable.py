import copy
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import EpochSampler, ImageFolder, InMemoryImages, Preprocessing, SkipUnreadable, UnreadableImageError
from tests.data._files import truncate, write_picture

SMALL = Preprocessing((12, 12), (0.0,) * 3, (1.0,) * 3)
BROKEN = [2, 3, 9]


@pytest.fixture
def images(tmp_path: Path) -> ImageFolder:
    """Ten pictures, of which 2, 3 and 9 cannot be read."""
    for number in range(10):
        write_picture(tmp_path / "ab"[number // 5] / f"{number}.png")
    dataset = ImageFolder("train", tmp_path, preprocessing=SMALL, augment=True)
    for number in BROKEN:
        truncate(dataset.paths[number])
    return dataset


def test_the_next_readable_image_takes_the_place(images: ImageFolder) -> None:
    dataset = SkipUnreadable(images, at_most=3)
    dataset.set_epoch(3)
    source = copy.deepcopy(images)
    source.set_epoch(3)
    for index, place in enumerate([0, 1, 4, 4, 4, 5, 6, 7, 8, 0]):
        image, label = dataset[index]
        assert torch.equal(image, source[place][0])
        assert label == source[place][1]
    assert torch.equal(dataset[-1][0], source[0][0])
    assert len(dataset) == 10
    assert dataset.skipped == BROKEN
    assert dataset.classes == ["a", "b"]
    assert dataset.task == "single-label"


def test_workers_and_a_resume_change_nothing(images: ImageFolder) -> None:
    def epoch(workers: int, start: int = 0) -> torch.Tensor:
        dataset = SkipUnreadable(images, at_most=3)
        dataset.set_epoch(1)
        loader = DataLoader(dataset, 2, sampler=EpochSampler(10, 0, 1, start), num_workers=workers)
        samples = torch.cat([batch for batch, _ in loader])
        if not start:
            assert dataset.skipped == BROKEN
        return samples

    whole = epoch(0)
    assert torch.equal(epoch(2), whole)
    assert torch.equal(epoch(0, start=4), whole[4:])


@pytest.mark.parametrize(
    ("at_most", "limit", "workers"), [(2, 2, 0), (0.29, 2, 0), (0, 0, 0), (0.0, 0, 0), (0.01, 0, 0), (2, 2, 1)]
)
def test_too_many_unreadable_images_are_an_error(images: ImageFolder, at_most: float, limit: int, workers: int) -> None:
    dataset = SkipUnreadable(images, at_most=at_most)
    with pytest.raises(AbnFastError) as error:
        list(DataLoader(dataset, batch_size=5, num_workers=workers))
    line = str(error.value).splitlines()[-1]
    assert f"{limit + 1} of 10 images cannot be read, and at most {limit} may be skipped" in line
    assert str(images.paths[BROKEN[limit]]) in line


def test_an_image_is_counted_once(images: ImageFolder) -> None:
    dataset = SkipUnreadable(images, at_most=3)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert len(list(DataLoader(dataset, batch_size=5))) == 2
    assert dataset.skipped == BROKEN


def test_none_readable_is_an_error(images: ImageFolder) -> None:
    for path in images.paths:
        path.write_bytes(b"")
    with pytest.raises(AbnFastError, match="none of the 10 images can be read"):
        SkipUnreadable(images, at_most=10)[3]


def test_evaluation_stops_with_the_path(images: ImageFolder) -> None:
    with pytest.raises(UnreadableImageError, match=r"a/2\.png"):
        list(DataLoader(images, batch_size=5))


def test_other_errors_pass() -> None:
    class Broken(InMemoryImages):
        def batch(self, indices: object) -> tuple[torch.Tensor, torch.Tensor]:
            raise AbnFastError("something else")

    broken = Broken(torch.zeros(2, 12, 12, 3, dtype=torch.uint8), torch.zeros(2).long(), ["a"], SMALL)
    with pytest.raises(AbnFastError, match="something else"):
        next(iter(DataLoader(SkipUnreadable(broken, at_most=1))))


def test_images_in_memory_are_still_read_by_the_batch() -> None:
    class Counting(InMemoryImages):
        batches = 0

        def batch(self, indices: object) -> tuple[torch.Tensor, torch.Tensor]:
            Counting.batches += 1
            return super().batch(indices)  # type: ignore[arg-type]  # as it was given

    images = torch.zeros(8, 12, 12, 3, dtype=torch.uint8)
    dataset = SkipUnreadable(Counting(images, torch.arange(8), ["a"] * 8, SMALL))
    assert torch.cat([labels for _, labels in DataLoader(dataset, batch_size=4)]).tolist() == list(range(8))
    assert Counting.batches == 2


def test_a_selection_skips_too(images: ImageFolder) -> None:
    part = SkipUnreadable(images, at_most=3).select([9, 2, 5])
    assert part[0][1] == 1  # image 5 in the place of 9 and 2
    assert part.skipped == [0, 1]
    assert part.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("at_most", [-1, 1.0, 1.5, -0.1, float("nan"), True, "all"])
def test_a_limit_out_of_range_is_told(images: ImageFolder, at_most: float) -> None:
    with pytest.raises(AbnFastError, match=f"at_most={at_most!r}"):
        SkipUnreadable(images, at_most=at_most)
