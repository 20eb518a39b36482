import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

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
from abn_fast.data.rand_augment import RandAugment

Task = Literal["single-label", "multi-label"]
Data = TypeVar("Data", bound="ImageDataset")


class ImageDataset(Dataset[tuple[Tensor, Any]]):
    """Samples (image, label): a normalised float32 [C, H, W] and a class number.

    Where the labels are attributes of which any number may be present ("multi-label"), a sample's label is a float32
    [K] of ones and zeros.

    The augmentation of a sample depends on (augmentation_seed, epoch, index) alone: not on the number of workers,
    the order of access or a resume, and no global random state is read or moved.

    Attributes:
        classes: their names, in the order of the labels; those of the attributes if "multi-label".
        preprocessing: what was done to the pictures.
        boxes: float32 [N, 4], the objects' (x0, y0, x1, y1) in pixels of the images as returned, or None where
            they are unknown or augmentation moves the objects.
        rand_augment: what else augmentation does to each picture, or None.
        has_edited_maps: whether images carry two channels more, those of `EditedMaps`.
    """

    rand_augment: RandAugment | None = None
    has_edited_maps = False

    def __init__(
        self,
        labels: Tensor | None,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        boxes: Tensor | None = None,
        augment: bool = False,
        augmentation_seed: int = 0,
    ) -> None:
        self._labels = None if labels is None else checked_labels(labels, classes)
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

    @property
    def labels(self) -> Tensor:
        """int64 [N] of class numbers, or float32 [N, K] of ones and zeros."""
        if self._labels is None:
            self._labels = checked_labels(self._read_labels(), self.classes)
        return self._labels

    @property
    def num_classes(self) -> int:
        """Number of classes, or of attributes."""
        return len(self.classes)

    @property
    def task(self) -> Task:
        """Whether a sample has one class or any number of attributes."""
        return "single-label" if self.labels.ndim == 1 else "multi-label"

    def select(self: Data, indices: Sequence[int] | Tensor) -> Data:
        """A data set of just these samples, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        part = copy.copy(self)
        part._epoch = self._epoch.clone().share_memory_()
        part._labels = self.labels[chosen]
        part.boxes = None if self.boxes is None else self.boxes[chosen]
        part._keep(chosen)
        return part

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn; call it before iterating over a loader."""
        self._epoch.fill_(epoch)

    def _read_labels(self) -> Tensor:
        """The labels of a data set that was made without."""
        raise NotImplementedError

    @abstractmethod
    def _keep(self, chosen: Tensor) -> None:
        """Cut what a subclass holds for every sample to these samples; labels and boxes are cut already."""

    def _draws(self, indices: npt.ArrayLike, columns: int) -> npt.NDArray[np.float64]:
        return uniform("augment", self.augmentation_seed, int(self._epoch), rows=indices, columns=columns)

    def _rand_augmented(self, image: Image.Image, index: int) -> Image.Image:
        if self.rand_augment is None:
            return image
        return self.rand_augment(image, self.augmentation_seed, int(self._epoch), index)


class InMemoryImages(ImageDataset):
    """Pictures of one size held in memory, read and augmented a batch at a time.

    Augmentation moves the picture by up to 4 pixels each way (filled with black) and, if asked, mirrors it.

    Attributes:
        keeps_pixels: whether preprocessing is normalisation alone.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N], or float32 [N, K] of ones and zeros.
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
            boxes = on_seen_image(boxes, preprocessing, width, height)
        super().__init__(
            labels, classes, preprocessing, boxes=boxes, augment=augment, augmentation_seed=augmentation_seed
        )
        self.images = images
        self.flip = flip
        same_size = preprocessing.image_size == (height, width) and preprocessing.crop_pct == 1
        self.keeps_pixels = same_size and preprocessing.channels == 3

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        images, labels = self.batch(indices)
        return list(zip(images.unbind(0), labels.tolist() if labels.ndim == 1 else labels.unbind(0), strict=True))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The samples of these indices, collated: float32 [N, C, H, W] and their labels."""
        chosen = torch.as_tensor(indices)
        pixels = self.images.flatten(1).index_select(0, chosen).view(-1, *self.images.shape[1:]).numpy()
        if self.augment:
            pixels = shift_and_flip(pixels, self.shifts(indices), self.padding)
            if self.rand_augment is not None:
                pairs = zip(pixels, indices, strict=True)
                pixels = np.stack([np.asarray(self._rand_augmented(Image.fromarray(p), i)) for p, i in pairs])
        if self.keeps_pixels:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # [N, C, H, W]
            images = self.preprocessing.normalize(torch.from_numpy(pixels).float().div_(255))
        else:
            images = torch.stack([self.preprocessing(Image.fromarray(image)) for image in pixels])
        return images, self.labels[chosen]

    def shifts(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """The augmentation of these samples, [N, 3]: first row and column of the picture seen, and 1 if mirrored."""
        draws = self._draws(indices, 3)
        shifts = (draws[:, :2] * (2 * self.padding + 1)).astype(np.int64) - self.padding
        return np.concatenate([shifts, ((draws[:, 2:] < 0.5) & self.flip).astype(np.int64)], axis=1)

    def _keep(self, chosen: Tensor) -> None:
        self.images = self.images[chosen]


def check_split(split: str) -> None:
    """Raise an AbnFastError unless the split is "train" or "test"."""
    if split not in ("train", "test"):
        raise AbnFastError(f"split {split!r}: expected 'train' or 'test'")


def checked_labels(labels: Tensor, classes: Sequence[str]) -> Tensor:
    """The labels themselves, if they are numbers of the classes or a column of ones and zeros for each."""
    if labels.ndim == 2:
        if labels.shape[1] != len(classes):
            raise AbnFastError(f"labels have {labels.shape[1]} columns, but there are {len(classes)} attributes")
        wrong = ((labels != 0) & (labels != 1)).any(1)
        expected = "ones and zeros"
    else:
        wrong = (labels < 0) | (labels >= len(classes))
        expected = f"0 to {len(classes) - 1}, the numbers of the classes"
    if wrong.any():
        sample = int(wrong.nonzero()[0])
        raise AbnFastError(f"the label of sample {sample} is {labels[sample].tolist()}: expected {expected}")
    return labels


def on_seen_image(boxes: Tensor, preprocessing: Preprocessing, width: int, height: int) -> Tensor:
    """Boxes on the pictures -> boxes on the images that the network sees."""
    left, top, right, bottom = preprocessing.crop_box(width, height)
    seen_height, seen_width = preprocessing.image_size
    scale = torch.tensor([seen_width / (right - left), seen_height / (bottom - top)]).repeat(2)
    limit = torch.tensor([seen_width, seen_height], dtype=torch.float32).repeat(2)
    return ((boxes - torch.tensor([left, top]).repeat(2)) * scale).clamp(torch.zeros(4), limit)
