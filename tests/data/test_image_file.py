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


@pytest.mark.filterwarnings("ignore")  # Pillow's, for some of them
@pytest.mark.parametrize("suffix", [".png", ".ppm", ".bmp"])
def test_whatever_is_corrupt_only_our_error_is_raised(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corrupt{suffix}"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        corrupt = bytearray(content)
        for place in generator.integers(0, 100, 3):
            corrupt[place] = generator.integers(256)
        path.write_bytes(corrupt)
        try:
            load_image(path)
        except AbnFastError as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all(f"corrupt{suffix}" in error and "\n" not in error for error in errors)


def test_broken_metadata_do_not_spoil_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0no TIFF header")
    with pytest.raises(SyntaxError), Image.open(path) as image:
        image.getexif()
    assert np.array_equal(np.asarray(load_image(path)), PIXELS)


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
