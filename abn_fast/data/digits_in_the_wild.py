from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.data._random import uniform
from abn_fast.data.dataset import InMemoryImages, check_split
from abn_fast.data.preprocessing import Preprocessing

MEAN = (0.467, 0.468, 0.424)  # of the training split; a test recomputes them
STD = (0.375, 0.307, 0.330)

_SIZES = {"train": 20_000, "test": 2_000}
_DIGIT_PIXELS = range(14, 23)
_COLUMNS = {"train": ((192, 640), (0, 384)), "test": ((0, 192), (384, 640))}  # of either photograph
_PLACES = 3
_FAINTEST_INK = 0.15
_INK_RANGE = 70  # of 255: how far an ink is from black or white

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]


class DigitsInTheWild(InMemoryImages):
    """Real handwritten digits at random places of real photographs, with the box of every digit.

    A digit of scikit-learn (8x8 pixels; 1,797 of them), enlarged to 14-22 pixels, is drawn on a random crop of
    one of scikit-learn's two photographs: at the evenest of three random places, in an ink that contrasts with
    what is under it. Every fifth digit of a class, the left 30 % of the one photograph and the right 40 % of the
    other are held out: they make the test split and occur nowhere else. Image i depends on (split, seed, i)
    alone: a larger data set begins with the smaller one.

    Args:
        split: "train" or "test".
        size: number of images; 20,000 for training and 2,000 for testing by default.
        seed: any integer.
        image_size: height and width of the images, 24 to 192 pixels.
        preprocessing: of the images; by default, nothing but normalisation.
        augment: whether to shift the images by up to 4 pixels, filled with black.
        augmentation_seed: any integer.

    Attributes:
        images: uint8 [N, H, W, 3].
        labels: int64 [N].
        boxes: float32 [N, 4], (x0, y0, x1, y1), the square that the digit's 8x8 pixels were enlarged to, in
            pixels of the images as returned; None if augmented.
        classes: "0" to "9".
        digits: int64 [N], which of the 1,797 digits was drawn.
        crops: int64 [N, 3], (photograph, top, left) of the background.

    Raises:
        AbnFastError: a value is out of its range, or scikit-learn is not installed.
    """

    def __init__(
        self,
        split: str,
        size: int | None = None,
        seed: int = 0,
        image_size: int = 48,
        *,
        preprocessing: Preprocessing | None = None,
        augment: bool = False,
        augmentation_seed: int = 0,
    ) -> None:
        check_split(split)
        if size is None:
            size = _SIZES[split]
        if size < 1:
            raise AbnFastError(f"size {size}: expected at least one image")
        if not 24 <= image_size <= 192:
            raise AbnFastError(f"image_size {image_size}: expected 24 to 192, which the photographs have room for")
        if preprocessing is None:
            preprocessing = Preprocessing((image_size, image_size), MEAN, STD)
        scene = _draw_scene(split, size, seed, image_size)
        super().__init__(
            _paint(scene, image_size),
            torch.from_numpy(_digits()[1][scene.digits]),
            [str(digit) for digit in range(10)],
            preprocessing,
            boxes=torch.from_numpy(_boxes(scene)),
            augment=augment,
            augmentation_seed=augmentation_seed,
        )
        self.digits = torch.from_numpy(scene.digits)
        self.crops = torch.from_numpy(scene.crops)

    def _keep(self, chosen: torch.Tensor) -> None:
        super()._keep(chosen)
        self.digits, self.crops = self.digits[chosen], self.crops[chosen]


@dataclass
class _Scene:
    digits: _Integers  # [N]
    pixels: _Integers  # [N], height and width of the digit
    corners: _Integers  # [N, 2], (top, left) of the digit in the image
    crops: _Integers  # [N, 3]
    tints: _Floats  # [N, 3]


def _draw_scene(split: str, size: int, seed: int, image_size: int) -> _Scene:
    draws = uniform("digits-in-the-wild", split, seed, rows=np.arange(size), columns=8 + 2 * _PLACES)
    held_in = _digit_split(split)
    pixels = _choose(draws[:, 1], _DIGIT_PIXELS.start, _DIGIT_PIXELS.stop)
    photograph = _choose(draws[:, 2], 0, len(_photographs()))
    first, end = np.array(_COLUMNS[split])[photograph].T
    crops = np.stack(
        [
            photograph,
            _choose(draws[:, 3], 0, _photographs().shape[1] - image_size + 1),
            _choose(draws[:, 4], first, end - image_size + 1),
        ],
        axis=1,
    )
    room = (image_size - pixels + 1)[:, None, None]
    places = _choose(draws[:, 8:].reshape(size, _PLACES, 2), 0, room)  # [N, places, 2]
    evenest = _unevenness(crops, places, pixels).argmin(axis=1)
    return _Scene(
        digits=held_in[_choose(draws[:, 0], 0, len(held_in))],
        pixels=pixels,
        corners=places[np.arange(size), evenest],
        crops=crops,
        tints=draws[:, 5:8].astype(np.float32),
    )


def _choose(draws: npt.NDArray[np.float64], first: int, end: int | _Integers) -> _Integers:
    return first + (draws * (end - first)).astype(np.int64)


def _unevenness(crops: _Integers, places: _Integers, pixels: _Integers) -> _Integers:
    """The variance of the brightness under a digit at every place, up to a factor, as [N, places]."""
    photograph, side = crops[:, :1], pixels[:, None]
    top, left = crops[:, 1:2] + places[:, :, 0], crops[:, 2:3] + places[:, :, 1]
    sums, squares = (
        table[photograph, top + side, left + side]
        - table[photograph, top, left + side]
        - table[photograph, top + side, left]
        + table[photograph, top, left]
        for table in _brightness_tables()
    )
    variance: _Integers = squares * side**2 - sums**2
    return variance


def _paint(scene: _Scene, image_size: int) -> torch.Tensor:
    """Blend the digits into their crops, as uint8 [N, H, W, 3]."""
    windows = np.lib.stride_tricks.sliding_window_view
    crops = windows(_photographs(), (image_size, image_size), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    photograph, top, left = scene.crops.T
    images = crops[photograph, top, left]  # [N, H, W, 3]
    for size in _DIGIT_PIXELS:
        (which,) = np.nonzero(scene.pixels == size)
        place = (which, *scene.corners[which].T)
        patches = windows(images, (size, size), axis=(1, 2), writeable=True)
        paper = patches[place].astype(np.float32)  # [n, 3, size, size]
        coverage = _enlarged(size)[scene.digits[which], None]  # [n, 1, size, size]
        brightness = (paper * coverage).sum((1, 2, 3)) / (3 * coverage.sum((1, 2, 3)))
        dark = scene.tints[which] * _INK_RANGE
        ink = np.where(brightness[:, None] > 127.5, dark, 255 - dark)[:, :, None, None]  # [n, 3, 1, 1]
        patches[place] = np.rint(paper + coverage * (ink - paper))
    return torch.from_numpy(images)


def _boxes(scene: _Scene) -> _Floats:
    first = scene.corners[:, [1, 0]]  # x, y
    return np.concatenate([first, first + scene.pixels[:, None]], axis=1).astype(np.float32)


@lru_cache
def _enlarged(size: int) -> _Floats:
    """All digits, 0 (paper) to 1 (ink), as [1797, size, size]."""
    resized = [
        np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)) for digit in _digits()[0]
    ]
    ink = (np.stack(resized) / 16).clip(0, 1).astype(np.float32)
    return np.where(ink < _FAINTEST_INK, np.float32(0), ink)


@lru_cache
def _digits() -> tuple[_Floats, _Integers]:
    """(ink 0 to 16 as [1797, 8, 8], labels)."""
    bunch = require("sklearn.datasets", extra="data", purpose="DigitsInTheWild").load_digits()
    return bunch.images.astype(np.float32), bunch.target.astype(np.int64)


@lru_cache
def _digit_split(split: str) -> _Integers:
    labels = _digits()[1]
    place_in_class = np.zeros_like(labels)
    for digit in range(10):
        (members,) = np.nonzero(labels == digit)
        place_in_class[members] = np.arange(len(members))
    held_out = place_in_class % 5 == 4
    return np.flatnonzero(held_out if split == "test" else ~held_out)


@lru_cache
def _photographs() -> npt.NDArray[np.uint8]:
    """The two photographs, as [2, 427, 640, 3]."""
    images = require("sklearn.datasets", extra="data", purpose="DigitsInTheWild").load_sample_images().images
    return np.stack(images)


@lru_cache
def _brightness_tables() -> tuple[_Integers, _Integers]:
    """Sums of the brightness, and of its square, over all that lies above and to the left, [2, 428, 641]."""
    brightness = _photographs().sum(axis=3, dtype=np.int64)
    first, second = (
        np.pad(values.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0))) for values in (brightness, brightness**2)
    )
    return first, second
