from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.data._image_file import UnreadableImageError, load_image
from abn_fast.data._problems import few
from abn_fast.export.image_folder import evenly, image_paths
from abn_fast.export.ranges import BatchRange, Size

MOST = 256
"""Images that are enough for the ranges of activations; of a larger folder they are taken evenly."""
CHUNK = 8
"""Images at a time where the network takes any number."""


class CalibrationImages:
    """Preprocessed images of a folder, read and checked at once.

    Args:
        folder: searched through and through, in order of path.
        preprocessing: of the network, whose image size makes way for `sizes`.
        sizes: that each image is seen in.
        progress: whether to show a progress bar; by default in a terminal.

    Raises:
        AbnFastError: no such folder, no image in it, or unreadable ones, which are named.
    """

    def __init__(
        self, folder: str | Path, preprocessing: Preprocessing, *sizes: Size, progress: bool | None = None
    ) -> None:
        self.paths = evenly(image_paths(folder, "calibration"), MOST)
        self.sizes = sizes
        seen = [replace(preprocessing, image_size=size) for size in sizes]
        images, unreadable = [], []
        for path in tqdm(self.paths, "reading", unit="img", disable=None if progress is None else not progress):
            try:
                picture = load_image(path)
                images.append([see(picture) for see in seen])
            except UnreadableImageError:
                unreadable.append(str(path.relative_to(folder)))
        if unreadable:
            raise AbnFastError(
                f"calibration {str(folder)!r}: {len(unreadable)} of {len(self.paths)} images cannot be read: "
                f"{few(unreadable, 3)}; repair or remove them"
            )
        self.images = [torch.stack(of_size) for of_size in zip(*images, strict=True)]
        """Of each size, [n, C, H, W]."""

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch: BatchRange) -> Iterator[Tensor]:
        """Each size's images, float32 [n, C, H, W], as many as the network takes; the last batch may repeat some."""
        count = min(max(batch.low, CHUNK), batch.high)
        for images in self.images:
            for start in range(0, len(self), count):
                stop = max(min(start + count, len(self)), start + batch.low)
                yield images[torch.arange(start, stop) % len(self)]
