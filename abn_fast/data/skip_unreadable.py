from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._image_file import UnreadableImageError
from abn_fast.data.dataset import ImageDataset, Task
from abn_fast.data.rand_augment import RandAugment


class SkipUnreadable(ImageDataset):
    """A training set in which an image that cannot be read gives way to the next one that can.

    Sample i is that of the first readable index among i, i + 1, ... (after the last comes the first), with that
    one's label and augmentation. This depends on the files alone: not on the order, the workers or a resume.

    Args:
        dataset: raises `UnreadableImageError` where an image cannot be read.
        at_most: how many images may be skipped: their number, or as a float below 1 their share, rounded down.

    Raises:
        AbnFastError: `at_most` is out of its range; on access, more images than that cannot be read. Images are
            counted as they come up, once each, by a loader's workers together; each rank of a distributed run counts
            for itself.
    """

    def __init__(self, dataset: ImageDataset, *, at_most: int | float = 0.01) -> None:
        super().__init__(None, dataset.classes, dataset.preprocessing, augment=dataset.augment)
        self.augmentation_seed = dataset.augmentation_seed
        self.dataset = dataset
        self.has_edited_maps = dataset.has_edited_maps
        self.limit = _limit(at_most, len(dataset))
        self._unreadable = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()  # seen by all workers

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._unreadable.share_memory_()

    @property
    def task(self) -> Task:
        """That of the data set."""
        return self.dataset.task

    @property
    def rand_augment(self) -> RandAugment | None:
        """That of the data set."""
        return self.dataset.rand_augment

    @rand_augment.setter
    def rand_augment(self, change: RandAugment | None) -> None:
        self.dataset.rand_augment = change

    @property
    def skipped(self) -> list[int]:
        """The indices that could not be read so far."""
        return [int(index) for index in self._unreadable.nonzero()[:, 0]]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        for step in range(len(self)):
            place = (index + step) % len(self)
            try:
                sample: tuple[Tensor, Any] = self.dataset[place]
                return sample
            except UnreadableImageError as error:
                self._count(place, error)
        raise AbnFastError(f"none of the {len(self)} images can be read")

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        whole_batch = getattr(self.dataset, "__getitems__", None)
        if whole_batch is not None:
            try:
                samples: list[tuple[Tensor, Any]] = whole_batch(indices)
                return samples
            except UnreadableImageError:
                pass
        return [self[index] for index in indices]

    def _count(self, place: int, error: UnreadableImageError) -> None:
        self._unreadable[place] = True
        count = int(self._unreadable.sum())
        if count > self.limit:
            raise AbnFastError(
                f"{count} of {len(self)} images cannot be read, and at most {self.limit} may be skipped: "
                f"`abn-fast check-data` lists them; the last one: {error}"
            ) from None

    def _read_labels(self) -> Tensor:
        return self.dataset.labels

    def _keep(self, chosen: Tensor) -> None:
        self.dataset = self.dataset.select(chosen)
        self._unreadable = self._unreadable[chosen].share_memory_()


def _limit(at_most: int | float, count: int) -> int:
    number = isinstance(at_most, int | float) and not isinstance(at_most, bool)
    if number and (at_most >= 0 if isinstance(at_most, int) else 0 <= at_most < 1):
        return at_most if isinstance(at_most, int) else int(at_most * count)
    raise AbnFastError(f"at_most={at_most!r}; expected a number of images, or a share of at least 0 and below 1")
