"""What a server takes for an image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from abn_fast.data import load_image
from abn_fast.export.server.read_image import read_image
from abn_fast.export.server.refusal import Refusal

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size that holds no pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size) + png_chunk(b"IDAT", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_pictures_of_common_formats_are_read_as_from_a_file(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("images") / "picture"
    path.write_bytes(encoded(Image.fromarray(PIXELS), kind))
    ours, expected = read_image(path.read_bytes(), 1200), load_image(path)
    np.testing.assert_array_equal(np.asarray(ours.convert("RGB")), np.asarray(expected.convert("RGB")))


def test_a_picture_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    assert read_image(encoded(Image.fromarray(PIXELS), "JPEG", exif=exif), 1200).size == (30, 40)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Refusal, match="40x30 pixels; at most 1199 are taken") as refusal:
        read_image(encoded(Image.fromarray(PIXELS), "PNG"), 1199)
    assert refusal.value.status == 413
    with pytest.raises(Refusal, match="9000x9000 pixels") as refusal:
        read_image(png_header(9000, 9000), 50_000_000)
    assert refusal.value.status == 413
    with pytest.raises(Refusal, match="cannot be read") as refusal:  # it would fail if it were
        read_image(png_header(1200, 1200), 50_000_000)
    assert refusal.value.status == 400


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no image"),
        (b"hello", "the 5 bytes are no image"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:300], "truncated|cannot be read"),
        (encoded(Image.fromarray(PIXELS), "PNG")[:300], "cannot be read"),
        (png_header(40000, 40000), "far more pixels than the 50000000"),
        (EPS, "are no image; expected one of BMP"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(data: bytes, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refusal:
        read_image(data, 50_000_000)
    assert refusal.value.status in (400, 413)
    assert "\n" not in str(refusal.value)
