from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.data import load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_reads_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(PIXELS).save(path, lossless=True)  # which only WebP minds
    image = np.asarray(load_image(path))
    assert image.shape == PIXELS.shape
    if suffix != ".jpg":
        assert np.array_equal(image, PIXELS)


def test_a_picture_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "sideways.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to show
    Image.fromarray(PIXELS).save(path, exif=exif)
    assert np.array_equal(np.asarray(load_image(path)), np.rot90(PIXELS, -1))


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, for TIFF
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg", ".gif"])
def test_a_truncated_image_is_named_in_the_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(AbnFastError, match=f"cut{suffix}") as error:
            load_image(path)
        assert "\n" not in str(error.value)


def test_a_corrupt_png_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.png"
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(AbnFastError, match=r"corrupt\.png"):
        load_image(path)


def test_text_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    with pytest.raises(AbnFastError, match=r"text\.jpg.*not a picture"):
        load_image(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"nowhere\.png' does not exist"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(AbnFastError, match="is a folder"):
        load_image(tmp_path)
