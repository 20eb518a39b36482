import copy
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from abn_fast.data import EpochSampler, ImageDataset, ImageFolder, InMemoryImages, Preprocessing
from abn_fast.data._augmentation import resized_crop_box
from abn_fast.data._random import uniform

PLAIN = Preprocessing((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PIXELS = np.random.default_rng(0).integers(1, 256, (24, 16, 16, 3), dtype=np.uint8)


def in_memory(folder: Path, seed: int = 7) -> ImageDataset:
    images, labels = torch.from_numpy(PIXELS), torch.arange(24) % 2
    return InMemoryImages(images, labels, ["a", "b"], PLAIN, augment=True, flip=True, augmentation_seed=seed)


def in_folder(folder: Path, seed: int = 7) -> ImageDataset:
    for number, pixels in enumerate(PIXELS):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return ImageFolder("train", folder, preprocessing=PLAIN, augment=True, augmentation_seed=seed)


Create = Callable[..., ImageDataset]
both = pytest.mark.parametrize("create", [in_memory, in_folder])


def global_states() -> list[bytes]:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global state is the point
    return [pickle.dumps(state) for state in (torch.get_rng_state().tolist(), random.getstate(), numpy_state)]


def loaded(dataset: ImageDataset, **arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(DataLoader(dataset, batch_size=5, **arguments))  # type: ignore[arg-type]  # of any kind
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


@both
def test_neither_workers_nor_order_nor_batches_change_a_sample(create: Create, tmp_path: Path) -> None:
    dataset = create(tmp_path)
    dataset.set_epoch(3)
    images, labels = loaded(dataset)
    for workers in (1, 2):
        again = loaded(dataset, num_workers=workers)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
    sampler = EpochSampler(24, seed=1, start=9)
    assert torch.equal(loaded(dataset, sampler=sampler)[0], images[list(sampler)])
    for index in (0, 23, -1):
        image, label = dataset[index]
        assert torch.equal(image, images[index])
        assert label == labels[index]


@both
def test_seed_and_epoch_change_the_samples(create: Create, tmp_path: Path) -> None:
    dataset = create(tmp_path)
    images, _ = loaded(dataset)
    dataset.set_epoch(1)
    assert not torch.equal(loaded(dataset)[0], images)
    dataset.set_epoch(0)
    assert torch.equal(loaded(dataset)[0], images)
    assert not torch.equal(loaded(create(tmp_path, seed=8))[0], images)


@both
def test_living_workers_learn_of_a_new_epoch(create: Create, tmp_path: Path) -> None:
    dataset = copy.deepcopy(create(tmp_path))
    loader = DataLoader(dataset, batch_size=24, num_workers=1, persistent_workers=True)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        expected = torch.stack([dataset[index][0] for index in range(24)])
        assert torch.equal(next(iter(loader))[0], expected)


@both
def test_global_random_states_are_left_alone(create: Create, tmp_path: Path) -> None:
    dataset = create(tmp_path)
    before = global_states()
    first = torch.stack([dataset[index][0] for index in range(24)])
    assert global_states() == before
    torch.manual_seed(1)
    assert torch.equal(torch.stack([dataset[index][0] for index in range(24)]), first)


@pytest.mark.parametrize("flip", [False, True])
def test_every_shift_and_mirror_comes_and_nothing_else(flip: bool) -> None:
    pixels = PIXELS[:1]
    padded = np.pad(pixels[0], ((4, 4), (4, 4), (0, 0)))
    possible = {}
    for top in range(9):
        for left in range(9):
            crop = padded[top : top + 16, left : left + 16]
            possible[crop.tobytes()] = (top, left, False)
            if flip:
                possible[crop[:, ::-1].tobytes()] = (top, left, True)
    dataset = InMemoryImages(
        torch.from_numpy(pixels).expand(4000, -1, -1, -1), torch.zeros(4000), ["a"], PLAIN, augment=True, flip=flip
    )
    seen = (dataset.batch(range(4000))[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    found = [possible[image.tobytes()] for image in seen]
    assert len(set(found)) == len(possible)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    expected = 4000 / len(possible)
    assert np.abs(counts - expected).max() < 5.5 * np.sqrt(expected)
    if flip:
        mirrored = sum(mirror for _, _, mirror in found)
        assert abs(mirrored - 2000) < 5 * np.sqrt(1000)


def test_without_augmentation_a_sample_is_the_preprocessed_picture() -> None:
    for preprocessing in (
        Preprocessing((16, 16), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        Preprocessing((12, 20), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), crop_pct=0.7),
        Preprocessing((16, 16), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), crop_pct=0.5),
        Preprocessing((16, 16), (0.5,), (0.5,)),
    ):
        dataset = InMemoryImages(torch.from_numpy(PIXELS), torch.arange(24), ["a"] * 24, preprocessing)
        images, labels = dataset.batch([5, 2])
        expected = [preprocessing(Image.fromarray(PIXELS[index])) for index in (5, 2)]
        assert torch.equal(images, torch.stack(expected))
        assert labels.tolist() == [5, 2]


def test_an_index_out_of_range_ends_iteration() -> None:
    dataset = InMemoryImages(torch.from_numpy(PIXELS), torch.arange(24), ["a"] * 24, PLAIN)
    for index in (24, -25):
        with pytest.raises(IndexError, match=f"sample {index} of 24"):
            dataset[index]
    assert len([label for _, label in dataset]) == 24  # type: ignore[attr-defined]  # by __getitem__ alone


def test_boxes_follow_the_preprocessing() -> None:
    boxes = torch.tensor([[2.0, 4, 6, 8], [0, 0, 16, 16]])
    arguments = (torch.from_numpy(PIXELS[:2]), torch.arange(2), ["a", "b"])
    statistics = ((0.5,) * 3, (0.5,) * 3)
    same = InMemoryImages(*arguments, Preprocessing((16, 16), *statistics), boxes=boxes)
    assert same.boxes is not None
    assert torch.equal(same.boxes, boxes)
    doubled = InMemoryImages(*arguments, Preprocessing((32, 32), *statistics), boxes=boxes)
    assert doubled.boxes is not None
    assert torch.equal(doubled.boxes, boxes * 2)
    # resized to 32, of which the middle 16 are seen: pixel 4 comes to lie at 0, pixel 12 at 16
    middle = InMemoryImages(*arguments, Preprocessing((16, 16), *statistics, crop_pct=0.5), boxes=boxes)
    assert middle.boxes is not None
    assert middle.boxes.tolist() == [[0, 0, 4, 8], [0, 0, 16, 16]]
    moved = InMemoryImages(*arguments, PLAIN, boxes=boxes, augment=True)
    assert moved.boxes is None


@pytest.mark.parametrize("size", [(100, 80), (31, 33), (1, 1), (1, 50), (50, 1), (400, 20)])
def test_resized_crops_lie_in_the_picture(size: tuple[int, int]) -> None:
    width, height = size
    for draws in uniform("test", rows=np.arange(300), columns=40).reshape(300, 10, 4):
        left, top, right, bottom = resized_crop_box(width, height, draws)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_resized_crops_are_distributed_as_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    count, width, height = 3000, 120, 70
    ours = np.array(
        [
            resized_crop_box(width, height, draws)
            for draws in uniform("test", rows=np.arange(count), columns=40).reshape(count, 10, 4)
        ]
    )
    picture = torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array(
            [transforms.RandomResizedCrop.get_params(picture, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(count)]
        )  # top, left, height, width
    theirs = np.stack([theirs[:, 1], theirs[:, 0], theirs[:, 1] + theirs[:, 3], theirs[:, 0] + theirs[:, 2]], 1)
    for quantile in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(np.quantile(ours, quantile, axis=0), np.quantile(theirs, quantile, axis=0), atol=5)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=1.5)


def test_a_folder_is_mirrored_half_of_the_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ramp = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8)[:, None], (48, 48, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "a" / "ramp.png")
    dataset = ImageFolder("train", tmp_path, preprocessing=PLAIN, augment=True)
    mirrored = 0
    for epoch in range(400):
        dataset.set_epoch(epoch)
        image = dataset[0][0]
        mirrored += int(image[0, 0, 0] > image[0, 0, -1])
    assert 150 < mirrored < 250
