import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from abn_fast.data.preprocessing import Preprocessing


def shift_and_flip(images: npt.NDArray[np.uint8], shifts: npt.NDArray[np.int64], padding: int) -> npt.NDArray[np.uint8]:
    """Move the images, fill with black what comes in, and mirror some.

    Args:
        images: [N, H, W, C].
        shifts: [N, 3]: the row and column of the image, -padding to padding, that become the first; 1 to mirror it.
        padding: pixels on every side.
    """
    count, height, width, _ = images.shape
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, images.shape[3]), np.uint8)
    padded[:, padding : padding + height, padding : padding + width] = images
    # all possible crops, a view: [N, 2 * padding + 1, 2 * padding + 1, C, H, W]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = shifts[:, :2].T + padding
    cropped: npt.NDArray[np.uint8] = windows.transpose(0, 1, 2, 4, 5, 3)[np.arange(count), top, left]
    mirrored = shifts[:, 2] == 1
    cropped[mirrored] = cropped[mirrored, :, ::-1]
    return cropped


RESIZED_CROP_TRIES = 10
PICTURE_DRAWS = 4 * RESIZED_CROP_TRIES + 1


def augment_picture(
    image: Image.Image,
    preprocessing: Preprocessing,
    draws: npt.NDArray[np.float64],
    crop: bool = True,
    change: Callable[[Image.Image], Image.Image] = lambda image: image,
) -> Tensor:
    """Cut a random rectangle out of a picture, resize it, mirror half of the pictures and normalise.

    Args:
        image: of any size.
        preprocessing: gives the size and the normalisation.
        draws: [41] in [0, 1): mirror, then those of `resized_crop_box`.
        crop: if False, the picture is resized as for evaluation and then mirrored or not.
        change: what else is done to the picture of its final size.
    """
    box, mirrored = seen_box(image.size, preprocessing, draws, crop)
    if crop:
        height, width = preprocessing.image_size
        image = preprocessing.convert(image).resize((width, height), preprocessing.resampling, box=box)
    else:
        image = preprocessing.resize(image)
    pixels = preprocessing.to_tensor(change(image))
    return pixels.flip(-1) if mirrored else pixels


def seen_box(
    size: tuple[int, int], preprocessing: Preprocessing, draws: npt.NDArray[np.float64], crop: bool = True
) -> tuple[tuple[float, float, float, float], bool]:
    """What `augment_picture` shows of a picture of (width, height): a rectangle, and whether it is mirrored."""
    box = resized_crop_box(*size, draws[1:].reshape(RESIZED_CROP_TRIES, 4)) if crop else preprocessing.crop_box(*size)
    return box, bool(draws[0] < 0.5)


def resized_crop_box(width: int, height: int, draws: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """A random rectangle (left, top, right, bottom) of 8 to 100 % of the area, of aspect 3/4 to 4/3.

    The "Inception crop" (Szegedy et al., CVPR 2015) as torchvision draws it: up to ten tries, then the largest
    centred rectangle whose aspect is allowed.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        draws: [10, 4] in [0, 1): area, aspect, horizontal place, vertical place of every try.
    """
    narrowest, widest = 3 / 4, 4 / 3
    for area_draw, aspect_draw, across, down in draws.tolist():
        area = (0.08 + 0.92 * area_draw) * width * height
        aspect = narrowest * (widest / narrowest) ** aspect_draw
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(across * (width - crop_width + 1))
            top = int(down * (height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, max(1, round(height * widest)))
    crop_height = min(height, max(1, round(width / narrowest)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height
