from collections.abc import Sequence

import torch
from torch import Tensor

from abn_fast.data.dataset import InMemoryImages


class ImagesOnDevice:
    """Pictures of one size in a device's memory, augmented there: the samples of the data set itself.

    Moving and mirroring are one gather of the batch, with the data set's own random places; nothing but those is
    copied to the device.

    Args:
        dataset: see `fits`.
        device: where the pictures are kept, as uint8.
    """

    def __init__(self, dataset: InMemoryImages, device: torch.device) -> None:
        self._dataset, self._device = dataset, device
        self._images, self._labels = dataset.images.to(device), dataset.labels.to(device)

    @staticmethod
    def fits(dataset: object, device: torch.device) -> bool:
        """Whether this is a GPU with room for the pictures in a quarter of its free memory."""
        if device.type != "cuda" or not isinstance(dataset, InMemoryImages) or not dataset.keeps_pixels:
            return False
        if dataset.rand_augment is not None:  # picture by picture, by the loader's workers
            return False
        return dataset.images.nbytes <= torch.cuda.mem_get_info(device)[0] // 4

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The samples of these indices on the device: float32 [N, C, H, W], channels_last, and their labels."""
        dataset = self._dataset
        chosen = torch.tensor(indices)
        if dataset.augment:
            moved = torch.from_numpy(dataset.shifts(indices))
            chosen = torch.cat([chosen[:, None], moved], 1)  # one copy to the device, not two
            chosen = chosen.to(self._device, non_blocking=True)
            pixels = shifted_and_flipped(self._images, chosen[:, 0], *chosen[:, 1:].unbind(1))
            chosen = chosen[:, 0]
        else:
            chosen = chosen.to(self._device, non_blocking=True)
            pixels = self._images[chosen]
        images = pixels.permute(0, 3, 1, 2).float().div_(255)  # [N, C, H, W]
        return dataset.preprocessing.normalize(images), self._labels[chosen]


def shifted_and_flipped(images: Tensor, chosen: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Some of the images, each moved by a number of pixels, filled with black, and then mirrored or not.

    Args:
        images: [N, H, W, C].
        chosen: int64 [n], which of them.
        down: int64 [n], the row of the picture that becomes the first one; negative moves it down.
        right: int64 [n], likewise the column.
        mirrored: int64 [n], 1 or 0.

    Returns:
        [n, H, W, C].
    """
    height, width = images.shape[1:3]
    row = torch.arange(height, device=images.device) + down[:, None]  # [n, H]
    column = torch.arange(width, device=images.device)
    column = torch.where(mirrored[:, None] == 1, width - 1 - column, column) + right[:, None]  # [n, W]
    inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    pixels = images[chosen[:, None, None], row[:, :, None], column[:, None]]
    return pixels.masked_fill_(~inside[..., None], 0)
