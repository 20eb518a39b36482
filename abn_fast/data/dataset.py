from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from abn_fast._errors import AbnFastError
from abn_fast.data._augmentation import shift_and_flip
from abn_fast.data._random import uniform
from abn_fast.data.preprocessing import Preprocessing


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Samples (image, label): a normalised float32 [C, H, W] and a class number.

    The augmentation of a sample depends on (augmentation_seed, epoch, index) alone: not on the number of workers,
    the order of access or a resume, and no global random state is read or moved.

    Attributes:
        classes: their names, in the order of the labels.
        preprocessing: what was done to the pictures.
        boxes: float32 [N, 4], the objects' (x0, y0, x1, y1) in pixels of the images as returned, or None where
            they are unknown or augmentation moves the objects.
    """

    def __init__(
        self,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        boxes: Tensor | None = None,
        augment: bool = False,
        augmentation_seed: int = 0,
    ) -> None:
        self.classes = list(classes)
        self.preprocessing = preprocessing
        self.boxes = None if augment else boxes
        self.augment = augment
        self.augmentation_seed = augmentation_seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # so that living workers see it change

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch.share_memory_()  # a copy's is not, and a worker's is already

    @abstractmethod
    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn; call it before iterating over a loader."""
        self._epoch.fill_(epoch)

    def _draws(self, indices: npt.ArrayLike, columns: int) -> npt.NDArray[np.float64]:
        return uniform("augment", self.augmentation_seed, int(self._epoch), rows=indices, columns=columns)


class InMemoryImages(ImageDataset):
    """Pictures of one size held in memory, read and augmented a batch at a time.

    Augmentation moves the picture by up to 4 pixels each way (filled with black) and, if asked, mirrors it.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N].
        classes: their names.
        preprocessing: its resizing and cropping are skipped where they would do nothing.
        boxes: float32 [N, 4] in pixels of `images`, or None.
        augment: whether to augment.
        flip: whether augmentation mirrors half of the pictures.
        augmentation_seed: any integer.
    """

    padding = 4

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        boxes: Tensor | None = None,
        augment: bool = False,
        flip: bool = False,
        augmentation_seed: int = 0,
    ) -> None:
        height, width = images.shape[1:3]
        if boxes is not None:
            boxes = _seen(boxes, preprocessing, width, height)
        super().__init__(classes, preprocessing, boxes=boxes, augment=augment, augmentation_seed=augmentation_seed)
        self.images = images
        self.labels = labels
        self.flip = flip
        same_size = preprocessing.image_size == (height, width) and preprocessing.crop_pct == 1
        self._keeps_pixels = same_size and preprocessing.channels == 3

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        images, labels = self.batch(indices)
        return list(zip(images.unbind(0), labels.tolist(), strict=True))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The samples of these indices, collated: float32 [N, C, H, W] and int64 [N]."""
        chosen = torch.as_tensor(indices)
        pixels = self.images.flatten(1).index_select(0, chosen).view(-1, *self.images.shape[1:]).numpy()
        if self.augment:
            pixels = shift_and_flip(pixels, self._draws(indices, 3), self.padding, self.flip)
        if self._keeps_pixels:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # [N, C, H, W]
            images = self.preprocessing.normalize(torch.from_numpy(pixels).float().div_(255))
        else:
            images = torch.stack([self.preprocessing(Image.fromarray(image)) for image in pixels])
        return images, self.labels[chosen]


def check_split(split: str) -> None:
    """Raise an AbnFastError unless the split is "train" or "test"."""
    if split not in ("train", "test"):
        raise AbnFastError(f"split {split!r}: expected 'train' or 'test'")


def _seen(boxes: Tensor, preprocessing: Preprocessing, width: int, height: int) -> Tensor:
    """Boxes on the pictures -> boxes on the images that the network sees."""
    left, top, right, bottom = preprocessing.crop_box(width, height)
    seen_height, seen_width = preprocessing.image_size
    scale = torch.tensor([seen_width / (right - left), seen_height / (bottom - top)]).repeat(2)
    limit = torch.tensor([seen_width, seen_height], dtype=torch.float32).repeat(2)
    return ((boxes - torch.tensor([left, top]).repeat(2)) * scale).clamp(torch.zeros(4), limit)
