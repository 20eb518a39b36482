import base64
import io
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.data.edited_map import Box
from abn_fast.explain import overlay
from abn_fast.explain._pixels import to_image, to_tensor
from abn_fast.export.image_folder import evenly, image_paths
from abn_fast.export.server.read_image import read_image
from abn_fast.export.server.refusal import Refusal

KEPT = 32
"""Pictures that the page may paint on without sending them again."""
WIDTH = 336
"""Of the pictures on the page, at least, in pixels."""
THUMBNAIL = 96
SAMPLES = 24


class Seen(NamedTuple):
    """A picture, as the network and as people see it."""

    image: Tensor
    """[C, H, W], preprocessed."""
    tile: Image.Image
    """The same part of the picture, RGB."""
    size: tuple[int, int]
    """(height, width) of the whole picture."""
    box: Box
    """(left, top, right, bottom) of that part."""

    def under(self, heat: Tensor) -> str:
        """The tile with a map [H, W] in [0, 1] of its size over it, as a data URL."""
        return data_url(to_image(overlay(to_tensor(self.tile)[None], heat[None])[0]))


class Gallery:
    """The pictures of the page: samples from a folder, and the last ones that were sent.

    Args:
        preprocessing: of the network.
        max_pixels: of a picture.
        folder: of samples; None for none.

    Raises:
        AbnFastError: the folder is missing or has no pictures.
    """

    def __init__(self, preprocessing: Preprocessing, max_pixels: int, folder: Path | None) -> None:
        self._preprocessing, self._max_pixels = preprocessing, max_pixels
        self._kept: OrderedDict[str, Seen] = OrderedDict()
        self.samples = [] if folder is None else evenly(image_paths(folder, "images"), SAMPLES)

    def add(self, data: bytes) -> str:
        """Keep a picture, a file's bytes, for a while; returns its name.

        Raises:
            Refusal: it is no picture, corrupt or too large.
        """
        picture = read_image(data, self._max_pixels)
        try:
            seen = _seen(picture, self._preprocessing)
        except AbnFastError as error:
            raise Refusal(400, str(error)) from None
        key = secrets.token_hex(8)
        self._kept[key] = seen
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return key

    def kept(self, key: str) -> Seen:
        """A picture that was added.

        Raises:
            Refusal: 410, it is no longer kept.
        """
        if key not in self._kept:
            raise Refusal(410, "this picture is no longer kept: choose it again")
        self._kept.move_to_end(key)
        return self._kept[key]

    def sample(self, index: int) -> bytes:
        """A sample's file.

        Raises:
            Refusal: 404, there is no such sample.
        """
        if not 0 <= index < len(self.samples):
            raise Refusal(404, f"there is no sample {index}; there are {len(self.samples)}")
        try:
            return self.samples[index].read_bytes()
        except OSError as error:
            raise Refusal(404, f"{self.samples[index].name} cannot be read: {error.strerror}") from None

    def thumbnail(self, index: int) -> bytes:
        """A sample as a small PNG.

        Raises:
            Refusal: there is no such sample, or it is no picture.
        """
        picture = read_image(self.sample(index), self._max_pixels).convert("RGB")
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        return png(picture)


def png(picture: Image.Image) -> bytes:
    """A PNG file's bytes."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def data_url(picture: Image.Image) -> str:
    """A picture for the `src` of an <img>."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii")


def _seen(picture: Image.Image, preprocessing: Preprocessing) -> Seen:
    height, width = preprocessing.image_size
    enlarged = max(1, -(-WIDTH // width))
    box = preprocessing.crop_box(*picture.size)
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    tile = preprocessing.convert(picture).convert("RGB")
    tile = tile.resize((width * enlarged, height * enlarged), Image.Resampling.BICUBIC, box=inside)
    return Seen(preprocessing(picture), tile, (picture.height, picture.width), box)
