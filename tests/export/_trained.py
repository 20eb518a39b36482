"""A small network that has learnt something, and the pictures that it knows: a square that is red, green or blue."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.data import Preprocessing

CLASSES = ["red", "green", "blue"]
SEEN = Preprocessing((24, 28), (0.4, 0.4, 0.4), (0.25, 0.25, 0.25))


def picture(index: int) -> np.ndarray[Any, Any]:
    """uint8 [24, 28, 3] of class index % 3."""
    generator = np.random.default_rng(index)
    pixels = generator.integers(0, 180, (24, 28, 3))
    top, left = generator.integers(0, 12, 2)
    pixels[top : top + 10, left : left + 12, index % 3] = generator.integers(200, 255)
    return pixels.astype(np.uint8)


def save_pictures(folder: Path, indices: range) -> Path:
    """The folder, with these pictures in files."""
    folder.mkdir()
    for index in indices:
        Image.fromarray(picture(index)).save(folder / f"{index:04}.png")
    return folder


@cache
def trained() -> AttentionBranchNetwork:
    """A network that tells them apart."""
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=8)
    assert isinstance(model, AttentionBranchNetwork)
    images = torch.stack([SEEN(Image.fromarray(picture(index))) for index in range(96)])
    labels = torch.arange(96) % 3
    optimizer = torch.optim.SGD(model.train().parameters(), 0.05, momentum=0.9)
    for step in range(45):
        chosen = torch.arange(step * 32, step * 32 + 32) % 96
        output = model(images[chosen])
        loss = F.cross_entropy(output.logits, labels[chosen]) + F.cross_entropy(output.attention_logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
