"""Pictures for the examples: a disc or a square, red or blue, large or small, somewhere in noise."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

QUESTIONS = ("round", "red", "large")


def draw(number: int, side: int = 48) -> tuple[Image.Image, tuple[bool, bool, bool]]:
    """The picture of a number, and the answers to `QUESTIONS`."""
    generator = np.random.default_rng(number)
    is_round, is_red, is_large = (bool(answer) for answer in generator.integers(0, 2, 3))
    picture = Image.fromarray(generator.integers(0, 120, (side, side, 3), dtype=np.uint8))
    size = side // 2 if is_large else side // 4
    left, top = (int(place) for place in generator.integers(0, side - size, 2))
    place, colour = (left, top, left + size, top + size), (220, 40, 40) if is_red else (40, 60, 230)
    pencil = ImageDraw.Draw(picture)
    (pencil.ellipse if is_round else pencil.rectangle)(place, fill=colour)
    return picture, (is_round, is_red, is_large)


def write_folder(folder: Path, train: int = 96, test: int = 32) -> Path:
    """Write folder/train/CLASS/ and folder/test/CLASS/, CLASS being disc or square; returns the folder."""
    for number in range(train + test):
        picture, (is_round, _, _) = draw(number)
        file = folder / ("train" if number < train else "test") / ("disc" if is_round else "square") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    return folder
