"""Augmentation on a device against that of one picture at a time, on the CPU."""

from types import SimpleNamespace

import pytest
import torch

from abn_fast.data import InMemoryImages, Preprocessing
from abn_fast.data.on_device import ImagesOnDevice, shifted_and_flipped

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(1, 256, (30, 9, 13, 3), dtype=torch.uint8, generator=GENERATOR)


def in_memory(augment: bool, flip: bool = True, side: tuple[int, int] = (9, 13)) -> InMemoryImages:
    preprocessing = Preprocessing(side, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    labels = torch.arange(30) % 3
    return InMemoryImages(
        IMAGES, labels, ["a", "b", "c"], preprocessing, augment=augment, flip=flip, augmentation_seed=5
    )


def one_by_one(image: torch.Tensor, down: int, right: int, mirrored: int) -> torch.Tensor:
    moved = torch.zeros_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if 0 <= y + down < image.shape[0] and 0 <= x + right < image.shape[1]:
                moved[y, x] = image[y + down, x + right]
    return moved.flip(1) if mirrored else moved


def test_every_move_and_mirror_is_that_of_one_picture() -> None:
    moves = torch.tensor([[i % 30, d, r, m] for i, d in enumerate((-4, 0, 3)) for r in (-3, 0, 4) for m in (0, 1)])
    batch = shifted_and_flipped(IMAGES, *moves.unbind(1))
    for picture, (index, down, right, mirrored) in zip(batch, moves.tolist(), strict=True):
        assert torch.equal(picture, one_by_one(IMAGES[index], down, right, mirrored))


@pytest.mark.parametrize(("augment", "flip"), [(False, False), (True, False), (True, True)])
def test_samples_are_the_data_sets_own_in_every_epoch(augment: bool, flip: bool) -> None:
    dataset = in_memory(augment, flip)
    on_device = ImagesOnDevice(dataset, CPU)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        images, labels = on_device.batch([7, 0, 29, 7, 12])
        expected, expected_labels = dataset.batch([7, 0, 29, 7, 12])
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_only_gpus_with_room_keep_pictures_of_the_size_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 4 * IMAGES.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    gpu = SimpleNamespace(type="cuda")
    assert ImagesOnDevice.fits(in_memory(True), gpu)  # type: ignore[arg-type]  # stands for a GPU
    assert not ImagesOnDevice.fits(in_memory(True), CPU)
    assert not ImagesOnDevice.fits(in_memory(True, side=(8, 8)), gpu)  # type: ignore[arg-type]  # likewise
    assert not ImagesOnDevice.fits([], gpu)  # type: ignore[arg-type]  # likewise
    free -= 4
    assert not ImagesOnDevice.fits(in_memory(True), gpu)  # type: ignore[arg-type]  # likewise
