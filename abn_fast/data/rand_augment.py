import numpy as np
import torch
from PIL import Image

from abn_fast.data._random import random_bits


class RandAugment:
    """RandAugment (Cubuk et al., NeurIPS 2020), torchvision's, as a function of the picture and its place.

    Global random states are left alone.

    Args:
        operations: how many a picture gets, one after the other.
        magnitude: their strength, 0 to 30.
    """

    def __init__(self, operations: int, magnitude: int) -> None:
        from torchvision.transforms import v2  # takes 2 s to import

        self._transform = v2.RandAugment(operations, magnitude)

    def __call__(self, image: Image.Image, seed: int, epoch: int, index: int) -> Image.Image:
        """The picture, changed; of the same size."""
        bits = random_bits("rand augment", seed, epoch, rows=[index], columns=1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(bits[0, 0] >> np.uint64(1)))  # torch.manual_seed seeds GPUs too
            changed: Image.Image = self._transform(image)
        return changed
