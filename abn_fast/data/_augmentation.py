import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from abn_fast.data.preprocessing import Preprocessing


def shift_and_flip(
    images: npt.NDArray[np.uint8], draws: npt.NDArray[np.float64], padding: int, flip: bool
) -> npt.NDArray[np.uint8]:
    """Pad with black, cut the original size out at a random place and mirror half of the images.

    Args:
        images: [N, H, W, C].
        draws: [N, 3] in [0, 1): vertical place, horizontal place, mirror.
        padding: pixels on every side.
        flip: whether to mirror.
    """
    count, height, width, _ = images.shape
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, images.shape[3]), np.uint8)
    padded[:, padding : padding + height, padding : padding + width] = images
    # all possible crops, a view: [N, 2 * padding + 1, 2 * padding + 1, C, H, W]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = (draws[:, :2] * (2 * padding + 1)).astype(np.int64).T
    cropped: npt.NDArray[np.uint8] = windows.transpose(0, 1, 2, 4, 5, 3)[np.arange(count), top, left]
    if flip:
        mirrored = draws[:, 2] < 0.5
        cropped[mirrored] = cropped[mirrored, :, ::-1]
    return cropped


RESIZED_CROP_TRIES = 10
PICTURE_DRAWS = 4 * RESIZED_CROP_TRIES + 1


def augment_picture(
    image: Image.Image, preprocessing: Preprocessing, draws: npt.NDArray[np.float64], crop: bool = True
) -> Tensor:
    """Cut a random rectangle out of a picture, resize it, mirror half of the pictures and normalise.

    Args:
        image: of any size.
        preprocessing: gives the size and the normalisation.
        draws: [41] in [0, 1): mirror, then those of `resized_crop_box`.
        crop: if False, the picture is preprocessed as for evaluation and then mirrored or not.
    """
    if crop:
        box = resized_crop_box(*image.size, draws[1:].reshape(RESIZED_CROP_TRIES, 4))
        height, width = preprocessing.image_size
        image = preprocessing.convert(image).resize((width, height), preprocessing.resampling, box=box)
        pixels = preprocessing.to_tensor(image)
    else:
        pixels = preprocessing(image)
    return pixels.flip(-1) if draws[0] < 0.5 else pixels


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
