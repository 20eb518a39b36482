import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> [3, H, W] in [0, 1], float32."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def to_image(pixels: Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] -> RGB image."""
    levels = (pixels.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())
