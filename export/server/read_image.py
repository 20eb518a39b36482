import io
from contextlib import suppress

from PIL import Image, ImageOps, UnidentifiedImageError

from abn_fast.export.server.refusal import Refusal

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's decoders of pictures alone; some others run programs."""


def read_image(data: bytes, max_pixels: int) -> Image.Image:
    """A picture from a file's bytes, decoded, turned upright by its EXIF orientation; of several frames the first.

    Raises:
        Refusal: 400 for what is no picture, corrupt or truncated; 413 for more pixels, which are not decoded.
    """
    if not data:
        raise Refusal(400, "the request holds no image: send a file's bytes as the body, or as multipart field 'image'")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Refusal(413, f"the image has {width}x{height} pixels; at most {max_pixels} are taken")
            image.load()
            with suppress(Exception):  # broken metadata does not spoil the pixels
                ImageOps.exif_transpose(image, in_place=True)
            return image
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal(400, f"the {len(data)} bytes are no image; expected one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refusal(413, f"the image has far more pixels than the {max_pixels} that are taken") from None
    except Exception as error:  # what Pillow raises depends on the format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(400, f"the image cannot be read: {reason}") from None
