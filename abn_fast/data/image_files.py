from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from abn_fast.data._augmentation import PICTURE_DRAWS, augment_picture
from abn_fast.data._image_file import load_image
from abn_fast.data.dataset import ImageDataset
from abn_fast.data.preprocessing import Preprocessing


class ImageFiles(ImageDataset):
    """Pictures in files, decoded when they are asked for.

    Augmentation is a random resized crop (see `resized_crop_box`) and mirroring.

    Args:
        paths: the files, in order.
        labels: int64 [N], or float32 [N, K] of ones and zeros.
        classes: their names.
        preprocessing: of the pictures.
        augment: whether to augment.
        crop: whether augmentation crops; if not, it only mirrors the preprocessed picture.
        augmentation_seed: any integer.

    Raises:
        UnreadableImageError: on access, a picture is missing, corrupt or truncated; its path is named.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Tensor,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        augment: bool = False,
        crop: bool = True,
        augmentation_seed: int = 0,
    ) -> None:
        super().__init__(labels, classes, preprocessing, augment=augment, augmentation_seed=augmentation_seed)
        self.paths = list(paths)
        self.crop = crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image = load_image(self.paths[index])
        label = self.labels[index]
        if self.augment:
            index %= len(self)
            draws = self._draws([index], PICTURE_DRAWS)[0]
            change = partial(self._rand_augmented, index=index)
            pixels = augment_picture(image, self.preprocessing, draws, self.crop, change)
        else:
            pixels = self.preprocessing(image)
        return pixels, int(label) if label.ndim == 0 else label

    def _keep(self, chosen: Tensor) -> None:
        self.paths = [self.paths[index] for index in chosen.tolist()]
