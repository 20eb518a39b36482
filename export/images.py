from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.data._image_file import load_image
from abn_fast.export.metadata import Metadata

EXPECTED = "a path, a PIL image, uint8 [H, W, C] or a list of these, or preprocessed floats [N, C, H, W]"


def images_to_tensor(images: Any, preprocessing: Preprocessing | None, metadata: Metadata) -> Tensor:
    """What a network takes, float32 [N, C, H, W], from anything that shows images.

    Raises:
        AbnFastError: nothing of the kind, unreadable, or of a size that the file does not take.
    """
    if isinstance(images, np.ndarray | Tensor) and (images.dtype not in (np.uint8, torch.uint8)):
        batch = _floats(images, metadata)
    else:
        pictures = _pictures(images)
        if not pictures:
            raise AbnFastError(f"no images given; expected {EXPECTED}")
        if preprocessing is None:
            raise AbnFastError(
                "the file does not say how pictures are preprocessed: give preprocessing=, or preprocessed floats"
            )
        batch = torch.stack([preprocessing(picture) for picture in pictures])
    _check_ranges(batch, metadata)
    return batch


def _floats(images: "np.ndarray[Any, Any] | Tensor", metadata: Metadata) -> Tensor:
    try:
        batch = torch.as_tensor(images)
    except TypeError:  # an array of text, or of objects
        raise AbnFastError(f"images are an array of {images.dtype}; expected {EXPECTED}") from None
    batch = batch[None] if batch.ndim == 3 else batch
    if not batch.is_floating_point() or batch.ndim != 4 or batch.shape[1] != metadata.channels or not batch.numel():
        raise AbnFastError(
            f"images are {str(images.dtype).removeprefix('torch.')} {list(images.shape)}; expected float "
            f"[N, {metadata.channels}, H, W], preprocessed, or uint8 [H, W, {metadata.channels}]"
        )
    return batch.detach().to(torch.float32).contiguous()


def _pictures(images: Any) -> list[Image.Image]:
    if isinstance(images, Tensor):
        images = images.numpy(force=True)
    if isinstance(images, list | tuple):
        return [picture for each in images for picture in _pictures(each)]
    if isinstance(images, str | Path):
        return [load_image(images)]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.size:
        if images.ndim == 4:
            return [picture for each in images for picture in _pictures(each)]
        if images.ndim == 3 and images.shape[2] == 1:
            images = images[:, :, 0]
        if images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3):
            return [Image.fromarray(images)]
    described = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
    raise AbnFastError(f"an image is {described}; expected {EXPECTED}")


def _check_ranges(batch: Tensor, metadata: Metadata) -> None:
    """Refuse what a file of fixed shapes does not take; others find out what they take."""
    if metadata.batch.is_fixed and len(batch) != metadata.batch.low:
        raise AbnFastError(f"{len(batch)} images; the file takes {metadata.batch} at a time")
    if metadata.size.is_fixed and tuple(batch.shape[2:]) != metadata.size.low:
        height, width = batch.shape[2:]
        raise AbnFastError(f"images of {height}x{width} pixels; the file takes {metadata.size}")
