from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.data import Preprocessing
from abn_fast.data._image_file import load_image
from abn_fast.export.image_folder import evenly, image_paths
from abn_fast.export.ranges import Size


class ProofImages:
    """Images to compare networks on, always the same ones: photographs and noise.

    Photographs come from a folder (searched through and through, taken evenly in order of path) or else are crops of
    scikit-learn's two; without scikit-learn there are none.

    Args:
        preprocessing: of the network, whose image size makes way for the size asked for.
        folder: of photographs.

    Raises:
        AbnFastError: no such folder, or no image in it.
    """

    def __init__(self, preprocessing: Preprocessing, folder: str | Path | None = None) -> None:
        self.preprocessing = preprocessing
        self.paths = [] if folder is None else image_paths(folder, "images")
        self._pictures = _sample_pictures() if folder is None else []

    @property
    def source(self) -> str:
        """Where photographs come from, in words; empty if there are none."""
        if self.paths:
            return f"{len(self.paths)} images of a folder"
        return "crops of scikit-learn's two photographs" if self._pictures else ""

    def photographs(self, count: int, size: Size) -> Tensor:
        """Normalised photographs, float32 [count, C, *size].

        Raises:
            AbnFastError: a file of the folder is no image; the message names it.
        """
        seen = replace(self.preprocessing, image_size=size)
        if self.paths:
            chosen = evenly(self.paths, count)
            paths = [chosen[index % len(chosen)] for index in range(count)]
            return torch.stack([seen(load_image(path)) for path in paths])
        generator = np.random.default_rng(0)
        return torch.stack([seen(_crop(self._pictures[i % 2], generator)) for i in range(count)])

    def noise(self, count: int, size: Size) -> Tensor:
        """Standard normal noise, float32 [count, C, *size]."""
        return torch.randn(count, self.preprocessing.channels, *size, generator=torch.Generator().manual_seed(0))


def _sample_pictures() -> list[Image.Image]:
    try:
        datasets = require("sklearn.datasets", extra="data", purpose="real images in the proof")
    except AbnFastError:
        return []
    return [Image.fromarray(datasets.load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def _crop(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A square of the picture, from a fifth of its height to all of it, anywhere."""
    side = int(picture.height * generator.uniform(0.2, 1))
    left, top = (int(generator.integers(0, room + 1)) for room in (picture.width - side, picture.height - side))
    return picture.crop((left, top, left + side, top + side))
