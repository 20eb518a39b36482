from collections.abc import Callable

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_maps_of

Classify = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] as the network takes them -> probabilities [N, K]."""


def check_faithfulness_inputs(images: Tensor, maps: Tensor, targets: Tensor) -> None:
    """Refuse maps that are not as large as the images, and targets that are not one class an image."""
    if images.ndim != 4 or not images.is_floating_point():
        raise AbnFastError(
            f"images have shape {list(images.shape)} and dtype {images.dtype}, expected floating point [N, C, H, W]"
        )
    check_maps_of(images, maps)
    if targets.shape != images.shape[:1] or targets.is_floating_point():
        raise AbnFastError(
            f"targets are {targets.dtype} {list(targets.shape)}, expected a class number for {len(images)} images"
        )


def probability(classify: Classify, images: Tensor, targets: Tensor) -> Tensor:
    """Probability of each image's target, [N]."""
    with torch.no_grad():
        return classify(images).gather(1, targets[:, None])[:, 0]
