import struct
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from abn_fast._errors import AbnFastError, one_line

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises, by format


class UnreadableImageError(AbnFastError):
    """An image is missing, corrupt, truncated or no picture; the message names it."""


def load_image(path: str | Path) -> Image.Image:
    """A picture from a file, fully decoded, turned upright by its EXIF orientation.

    Raises:
        UnreadableImageError: there is no such file, or it is corrupt, truncated or no picture; the path is named.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder, expected an image file" if path.is_dir() else "does not exist"
        raise UnreadableImageError(f"image '{path}' {found}")
    try:
        with Image.open(path) as image:
            image.load()
            with suppress(*_BROKEN):  # broken metadata does not spoil the pixels
                ImageOps.exif_transpose(image, in_place=True)
            return image
    except UnidentifiedImageError:
        raise UnreadableImageError(f"image '{path}' is corrupt or not a picture that Pillow reads") from None
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"image '{path}' cannot be read: {one_line(error)}") from None
