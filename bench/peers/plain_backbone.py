from collections.abc import Callable

import timm
import torch
from torch import Tensor


def plain_backbone(name: str, num_classes: int) -> Callable[[Tensor], Tensor]:
    """The network of the same size that explains nothing, as timm makes it: images to logits, eager, NCHW."""
    return torch.inference_mode()(timm.create_model(name, num_classes=num_classes).eval())
