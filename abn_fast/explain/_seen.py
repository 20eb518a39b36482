from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.explain._pixels import to_image, to_tensor
from abn_fast.explain.overlay import overlay
from abn_fast.explain.picture import read_picture

SMALLEST = 16


class Seen(NamedTuple):
    """What the model sees of a picture: its input, and for people the same part of the picture as a tile."""

    image: Tensor
    """[1, C, H, W], preprocessed."""
    tile: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the tile."""
        return self.tile.height, self.tile.width

    def under(self, maps: Tensor, alpha: float, colormap: str) -> Image.Image:
        """The tile with a map [H, W] in [0, 1] of its size over it."""
        return to_image(overlay(to_tensor(self.tile)[None], maps[None].cpu(), alpha, colormap)[0])


def see(path: str | Path, preprocessing: Preprocessing, width: int) -> Seen:
    """A picture from a file, as a tile of this width.

    Raises:
        AbnFastError: the picture cannot be read, or tiles narrower than 16 pixels.
    """
    if width < SMALLEST:
        raise AbnFastError(f"tile={width}: expected {SMALLEST} pixels or more")
    picture = read_picture(Path(path), preprocessing)
    height, across = preprocessing.image_size
    left, top, right, bottom = (round(edge) for edge in preprocessing.crop_box(*picture.size))
    size = (width, max(1, round(width * height / across)))
    return Seen(preprocessing(picture)[None], picture.crop((left, top, right, bottom)).resize(size))


def check_names(names: Sequence[str], count: int, kind: str = "classes") -> None:
    """Refuse another number of names of classes or tasks than the model has."""
    if len(names) != count:
        raise AbnFastError(f"{len(names)} names for a model of {count} {kind}")
