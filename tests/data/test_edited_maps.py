"""Image folders with edited maps beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError
from abn_fast.data import EditedMaps, ImageFolder, InMemoryImages, Preprocessing, SkipUnreadable

SEEN = Preprocessing((16, 16), (0.0,) * 3, (1.0,) * 3)
MAP_SIZE = (4, 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures whose red channel a map can be compared with after any cropping and mirroring."""
    generator = np.random.default_rng(0)
    for name in ("train/cat/1", "train/cat/2", "train/dog/1", "test/cat/1", "test/dog/1"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        coarse.resize((70, 60), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "images"


def folder(root: Path, split: str = "train", **arguments: Any) -> ImageFolder:
    return ImageFolder(split, root, preprocessing=SEEN, **arguments)


def edit(root: Path, name: str) -> Path:
    """The red channel of a picture as its edited map."""
    path = root.with_name("maps") / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(root / f"{name}.png").getchannel("R").save(path)
    return root.with_name("maps")


@pytest.mark.parametrize("augment", [False, True])
def test_the_map_moves_with_its_picture(root: Path, augment: bool) -> None:
    data = EditedMaps(folder(root, augment=augment), edit(root, "train/cat/2"), root, MAP_SIZE)
    seen = []
    for epoch in range(6):
        data.set_epoch(epoch)
        image, label = data[1]
        assert image.shape == (5, 16, 16)
        assert label == 0
        assert torch.equal(image[:3], data.dataset[1][0])  # the picture itself is the folder's
        torch.testing.assert_close(image[4], torch.ones(16, 16))
        # the map is averaged over each pixel's area, the picture resampled by triangles
        correlation = torch.corrcoef(torch.stack([image[0].flatten(), image[3].flatten()]))[0, 1]
        assert float(correlation) > 0.98
        assert float((image[0] - image[3]).abs().mean()) < 0.05
        seen.append(image)
    different = any(not torch.equal(seen[0], other) for other in seen[1:])
    assert different == augment


def test_pictures_without_an_edited_map_have_zeros(root: Path) -> None:
    data = EditedMaps(folder(root), edit(root, "train/cat/2"), root, MAP_SIZE)
    assert data.edited == 1
    assert all(float(data[index][0][3:].abs().sum()) == 0 for index in (0, 2))


def test_a_map_of_the_networks_size_says_nothing_around_what_it_sees(root: Path) -> None:
    maps = root.with_name("maps") / "train" / "dog"
    maps.mkdir(parents=True)
    np.save(maps / "1.npy", np.full(MAP_SIZE, 0.5, np.float32))
    data = EditedMaps(folder(root), maps.parents[1], root, MAP_SIZE)
    image, _ = data[2]
    torch.testing.assert_close(image[3:], torch.stack([torch.full((16, 16), 0.5), torch.ones(16, 16)]))
    augmented = EditedMaps(folder(root, augment=True), maps.parents[1], root, MAP_SIZE)
    shares = []
    for epoch in range(20):
        augmented.set_epoch(epoch)
        value, share = augmented[2][0][3:]
        torch.testing.assert_close(value, 0.5 * share)
        shares.append(float(share.mean()))
    assert min(shares) < 1  # a crop that reaches over the part that was edited
    assert max(shares) > 0.9


def test_parts_and_copies_of_the_data_keep_their_maps(root: Path) -> None:
    data = EditedMaps(folder(root), edit(root, "train/cat/2"), root, MAP_SIZE)
    part = data.select([2, 1])
    assert part.edited == 1
    assert torch.equal(part[1][0], data[1][0])
    skipping = SkipUnreadable(data)
    assert skipping.has_edited_maps
    assert torch.equal(skipping[1][0], data[1][0])


def test_maps_of_no_picture_are_told(root: Path) -> None:
    maps = edit(root, "train/cat/2")
    edit(root, "test/cat/1")
    assert EditedMaps(folder(root), maps, root, MAP_SIZE).unused == [str(Path("test", "cat", "1.png"))]


def write_nothing(root: Path, maps: Path) -> None:
    maps.mkdir()


def write_unused(root: Path, maps: Path) -> None:
    edit(root, "test/cat/1")


def write_two(root: Path, maps: Path) -> None:
    edit(root, "train/cat/1")
    np.save(maps / "train/cat/1.npy", np.zeros(MAP_SIZE, np.float32))


def write_too_large(root: Path, maps: Path) -> None:
    edit(root, "train/cat/1")
    np.save(maps / "train/cat/2.npy", np.zeros((5, 5), np.float32))


def write_out_of_range(root: Path, maps: Path) -> None:
    edit(root, "train/cat/1")
    np.save(maps / "train/cat/2.npy", np.full(MAP_SIZE, 1.5, np.float32))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root, maps: None, "no such folder"),
        (write_nothing, "no .png or .npy; expected names such as train/cat/1.png"),
        (write_unused, "test/cat/1.png belong to none of the 3 training images"),
        (write_two, "is not the only one of its name"),
        (write_too_large, r"2.npy' has 5x5 pixels .* expected 4x4, .* or 60x70"),
        (write_out_of_range, r"values in \[1.5, 1.5\]"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(root: Path, write: Any, message: str) -> None:
    maps = root.with_name("maps")
    write(root, maps)
    with pytest.raises(AbnFastError, match=message):
        EditedMaps(folder(root), maps, root, MAP_SIZE)


def test_pictures_that_are_not_in_files_are_refused(root: Path) -> None:
    pixels = InMemoryImages(torch.zeros(2, 16, 16, 3, dtype=torch.uint8), torch.tensor([0, 1]), ["a", "b"], SEEN)
    with pytest.raises(AbnFastError, match="expected a folder of images"):
        EditedMaps(pixels, root, root, MAP_SIZE)
