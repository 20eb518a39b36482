import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import DigitsInTheWild, Preprocessing, create_dataset, digits_in_the_wild

sources = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def training() -> DigitsInTheWild:
    return DigitsInTheWild("train", 3000)


@pytest.fixture(scope="module")
def test() -> DigitsInTheWild:
    return DigitsInTheWild("test", 1000)


def backgrounds(dataset: DigitsInTheWild) -> np.ndarray:
    """What the photographs show where the data set says it cut them."""
    photographs = sources.load_sample_images().images
    size = dataset.images.shape[1]
    crops = dataset.crops.tolist()
    return np.stack([photographs[which][top : top + size, left : left + size] for which, top, left in crops])


def inside(dataset: DigitsInTheWild) -> np.ndarray:
    """Whether a pixel lies in the box, as [N, H, W]."""
    assert dataset.boxes is not None
    place = np.arange(dataset.images.shape[1])
    x0, y0, x1, y1 = dataset.boxes.numpy()[:, :, None].transpose(1, 0, 2)
    across, down = (place >= x0) & (place < x1), (place >= y0) & (place < y1)
    both: np.ndarray = down[:, :, None] & across[:, None, :]
    return both


def test_shapes_and_types(training: DigitsInTheWild) -> None:
    assert training.images.shape == (3000, 48, 48, 3)
    assert training.images.dtype == torch.uint8
    assert training.labels.dtype == torch.int64
    assert training.boxes is not None
    assert training.boxes.shape == (3000, 4)
    assert training.boxes.dtype == torch.float32
    assert training.classes == [str(digit) for digit in range(10)]


def test_a_seed_fixes_every_bit() -> None:
    first, second, other = (DigitsInTheWild("train", 700, seed=seed) for seed in (1, 1, 2))
    for name in ("images", "labels", "boxes", "digits", "crops"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_a_larger_set_begins_with_the_smaller(training: DigitsInTheWild) -> None:
    smaller = DigitsInTheWild("train", 100)
    assert torch.equal(smaller.images, training.images[:100])
    assert smaller.boxes is not None
    assert training.boxes is not None
    assert torch.equal(smaller.boxes, training.boxes[:100])


@pytest.mark.parametrize("split", ["training", "test"])
def test_outside_the_box_the_picture_is_the_photograph(split: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(split)
    changed = (dataset.images.numpy() != backgrounds(dataset)).any(axis=3)
    assert not changed[~inside(dataset)].any()


def test_boxes_are_the_squares_that_digits_were_enlarged_to(training: DigitsInTheWild) -> None:
    assert training.boxes is not None
    sides = training.boxes[:, 2:] - training.boxes[:, :2]
    assert torch.equal(sides[:, 0], sides[:, 1])
    assert sorted(set(sides[:, 0].tolist())) == list(range(14, 23))
    changed = (training.images.numpy() != backgrounds(training)).any(axis=3)
    for axis, first, last in ((1, 0, 2), (2, 1, 3)):
        line = changed.any(axis=axis)
        before = line.argmax(axis=1) - training.boxes[:, first].numpy()
        behind = training.boxes[:, last].numpy() - (48 - line[:, ::-1].argmax(axis=1))
        assert min(before.min(), behind.min()) >= 0
        assert np.abs(before - behind).mean() < 2  # the digit stands in the middle


def test_the_named_digit_is_in_the_box(training: DigitsInTheWild) -> None:
    assert training.boxes is not None
    real = sources.load_digits()
    assert torch.equal(training.labels, torch.from_numpy(real.target)[training.digits])
    change = np.abs(training.images.numpy().astype(float) - backgrounds(training)).sum(axis=3)
    likeness = []
    for index in range(300):
        digit = real.images[training.digits[index]]
        seen = Image.fromarray(change[index].astype(np.float32)).resize(
            digit.shape[::-1], Image.Resampling.BOX, box=tuple(training.boxes[index].tolist())
        )
        likeness.append(np.corrcoef(np.asarray(seen).ravel(), digit.ravel())[0, 1])
    assert np.median(likeness) > 0.9


def test_held_out_digits_never_occur_in_training(training: DigitsInTheWild, test: DigitsInTheWild) -> None:
    seen, held_out = set(training.digits.tolist()), set(test.digits.tolist())
    assert not seen & held_out
    assert len(seen) > 1000
    assert len(held_out) > 300
    different = DigitsInTheWild("test", 1000, seed=9)
    assert not seen & set(different.digits.tolist())
    for dataset in (training, test):
        assert np.bincount(dataset.labels, minlength=10).min() > 0.05 * len(dataset)


def test_held_out_photograph_regions_never_occur_in_training(training: DigitsInTheWild, test: DigitsInTheWild) -> None:
    shown = {}
    for name, dataset in (("training", training), ("test", test)):
        shown[name] = np.zeros((2, 427, 640), bool)
        for photograph, top, left in dataset.crops.tolist():
            shown[name][photograph, top : top + 48, left : left + 48] = True
    assert not (shown["training"] & shown["test"]).any()
    assert (shown["training"] | shown["test"]).mean() > 0.95


def test_digits_are_visible(training: DigitsInTheWild) -> None:
    change = np.abs(training.images.numpy().astype(float) - backgrounds(training)).mean(axis=3)
    ink = [np.quantile(seen[box], 0.9) for seen, box in zip(change, inside(training), strict=True)]
    assert (np.array(ink) > 60).mean() > 0.98


def test_digits_lie_on_even_ground(training: DigitsInTheWild) -> None:
    brightness = backgrounds(training)[:500].mean(axis=3)
    under = np.array([seen[box].std() for seen, box in zip(brightness, inside(training)[:500], strict=True)])
    corners = np.random.default_rng(0).integers(0, 30, (500, 2))
    anywhere = [seen[y : y + 18, x : x + 18].std() for seen, (y, x) in zip(brightness, corners, strict=True)]
    assert under.mean() < 0.85 * np.mean(anywhere)
    assert under.max() > 40  # yet some ground is uneven everywhere


def test_digits_lie_anywhere(training: DigitsInTheWild) -> None:
    assert training.boxes is not None
    share = inside(training).mean(axis=0)
    assert training.boxes.min() == 0
    assert training.boxes.max() == 48
    centres = (training.boxes[:, :2] + training.boxes[:, 2:]) / 2
    quadrants = (centres > 24).long() @ torch.tensor([1, 2])
    assert (torch.bincount(quadrants, minlength=4) > 0.2 * len(training)).all()
    assert share.max() < 0.4  # a constant guess points into few boxes


def test_statistics_are_those_of_the_training_split(training: DigitsInTheWild) -> None:
    pixels = training.images.double().div(255).flatten(0, 2)
    assert torch.allclose(pixels.mean(0), torch.tensor(training.preprocessing.mean).double(), atol=0.01)
    assert torch.allclose(pixels.std(0), torch.tensor(training.preprocessing.std).double(), atol=0.01)


def test_serves_a_data_loader(test: DigitsInTheWild) -> None:
    images, labels = next(iter(DataLoader(test, batch_size=32)))
    assert images.shape == (32, 3, 48, 48)
    assert images.is_contiguous()
    assert torch.equal(labels, test.labels[:32])
    shown = (test.preprocessing.denormalize(images) * 255).round().byte().permute(0, 2, 3, 1)
    assert torch.equal(shown, test.images[:32])


def test_created_by_name() -> None:
    dataset = create_dataset("digits-in-the-wild", "test", size=20, seed=3, image_size=64)
    direct = DigitsInTheWild("test", 20, seed=3, image_size=64)
    assert isinstance(dataset, DigitsInTheWild)
    assert torch.equal(dataset.images, direct.images)
    assert dataset[0][0].shape == (3, 64, 64)


def test_default_sizes_are_kept_apart() -> None:
    assert len(DigitsInTheWild("test")) == 2000


def test_augmentation_only_shifts() -> None:
    dataset = create_dataset("digits-in-the-wild", "train", augment=True, size=20)
    assert isinstance(dataset, DigitsInTheWild)
    assert not dataset.flip
    assert dataset.boxes is None


def test_another_preprocessing_moves_the_boxes() -> None:
    plain = DigitsInTheWild("test", 20)
    large = DigitsInTheWild("test", 20, preprocessing=Preprocessing((96, 96), (0.5,) * 3, (0.5,) * 3))
    assert plain.boxes is not None
    assert large.boxes is not None
    assert large[0][0].shape == (3, 96, 96)
    assert torch.equal(large.boxes, plain.boxes * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validation"}, "'validation'"),
        ({"split": "train", "size": 0}, "size 0"),
        ({"split": "train", "image_size": 20}, "image_size 20"),
        ({"split": "train", "image_size": 224}, "image_size 224"),
    ],
)
def test_bad_values_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        DigitsInTheWild(**arguments)  # type: ignore[arg-type]  # of several kinds


@pytest.mark.parametrize("image_size", [24, 192])
def test_smallest_and_largest_images(image_size: int) -> None:
    dataset = DigitsInTheWild("test", 5, image_size=image_size)
    assert dataset.images.shape == (5, image_size, image_size, 3)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (digits_in_the_wild._digits, digits_in_the_wild._digit_split, digits_in_the_wild._photographs):
        source.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(AbnFastError, match=r"DigitsInTheWild needs.*abn-fast\[data\]"):
        DigitsInTheWild("train", 5)
