from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from abn_fast._errors import AbnFastError
from abn_fast.data._augmentation import PICTURE_DRAWS, augment_picture
from abn_fast.data._image_file import UnreadableImageError
from abn_fast.data.dataset import ImageDataset, Task
from abn_fast.data.preprocessing import Preprocessing


def as_image_dataset(
    dataset: Dataset[Any],
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    *,
    augment: bool = False,
    crop: bool = True,
    augmentation_seed: int = 0,
) -> ImageDataset:
    """Any map-style data set of pairs (image, label), as training and evaluation here take it.

    An `ImageDataset` is returned as it is. Of any other, a PIL picture is augmented and preprocessed here; a tensor
    is taken as the data set made it, and `preprocessing` says what was done, which the checkpoint keeps. A label is a
    class number or a [K] of ones and zeros. Labels are taken from `dataset.targets` or `dataset.labels` if it has
    them; else they are read, image by image, when something asks for all of them.

    Args:
        dataset: with `__len__` and `__getitem__`.
        preprocessing: of the pictures; by default `dataset.preprocessing`.
        classes: their names; by default `dataset.classes`.
        augment: whether to augment pictures: a random resized crop and mirroring.
        crop: if False, augmentation is mirroring alone.
        augmentation_seed: any integer.

    Raises:
        AbnFastError: the data set has no length, preprocessing or classes; on access, a sample is no such pair.
        UnreadableImageError: on access, the data set could not read a sample.
    """
    if isinstance(dataset, ImageDataset):
        return dataset
    kind = type(dataset).__name__
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise AbnFastError(f"{kind} has no length and no samples by index: expected a map-style torch data set")
    preprocessing = preprocessing or getattr(dataset, "preprocessing", None)
    if preprocessing is None:
        raise AbnFastError(f"{kind} does not say how its images are preprocessed: give preprocessing=")
    classes = classes or getattr(dataset, "classes", None)
    if classes is None:
        raise AbnFastError(f"{kind} does not name its classes: give classes=")
    return _TorchDataset(dataset, preprocessing, [str(name) for name in classes], augment, crop, augmentation_seed)


class _TorchDataset(ImageDataset):
    def __init__(
        self,
        dataset: Any,
        preprocessing: Preprocessing,
        classes: list[str],
        augment: bool,
        crop: bool,
        augmentation_seed: int,
    ) -> None:
        labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
        super().__init__(
            None if labels is None else _as_labels(labels),
            classes,
            preprocessing,
            augment=augment,
            augmentation_seed=augmentation_seed,
        )
        self.dataset, self.crop = dataset, crop
        self.indices = torch.arange(len(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self._pair(index)
        if isinstance(image, Image.Image):
            if self.augment:
                draws = self._draws([index % len(self)], PICTURE_DRAWS)[0]
                change = partial(self._rand_augmented, index=index % len(self))
                image = augment_picture(image, self.preprocessing, draws, self.crop, change)
            else:
                image = self.preprocessing(image)
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
            shape = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise AbnFastError(f"{self._name(index)} is {shape}: expected a PIL picture or floating-point [C, H, W]")
        return image, int(label) if self._is_number(label) else torch.as_tensor(label).float()

    @property
    def task(self) -> Task:
        """Told by the first sample where the labels are not known."""
        if self._labels is not None:
            return super().task
        return "single-label" if self._is_number(self._pair(0)[1]) else "multi-label"

    def _pair(self, index: int) -> tuple[Any, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        try:
            sample = self.dataset[int(self.indices[index])]
        except (OSError, SyntaxError) as error:  # what Pillow raises
            reason = " ".join(str(error).split())
            raise UnreadableImageError(f"{self._name(index)} cannot be read: {reason}") from None
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise AbnFastError(f"{self._name(index)} is {type(sample).__name__}: expected a pair (image, label)")
        return sample[0], sample[1]

    def _name(self, index: int) -> str:
        return f"sample {int(self.indices[index])} of {type(self.dataset).__name__}"

    @staticmethod
    def _is_number(label: Any) -> bool:
        return torch.as_tensor(label).ndim == 0

    def _read_labels(self) -> Tensor:
        return _as_labels([self._pair(index)[1] for index in range(len(self))])

    def _keep(self, chosen: Tensor) -> None:
        self.indices = self.indices[chosen]


def _as_labels(labels: Any) -> Tensor:
    if isinstance(labels, list | tuple) and labels and isinstance(labels[0], Tensor):
        labels = torch.stack(list(labels))
    numbers: Tensor = torch.as_tensor(labels)
    return numbers.long() if numbers.ndim == 1 else numbers.float()
