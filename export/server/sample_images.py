import io

import numpy as np
from PIL import Image

SIZES = ((480, 640), (375, 500), (600, 400), (224, 224))


def sample_images(count: int = 16) -> list[bytes]:
    """JPEG files of several sizes, smooth colours with noise, always the same ones."""
    generator = np.random.default_rng(0)
    return [_jpeg(generator, SIZES[index % len(SIZES)]) for index in range(count)]


def _jpeg(generator: np.random.Generator, size: tuple[int, int]) -> bytes:
    height, width = size
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = (smooth + generator.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=90)
    return file.getvalue()
