"""The published models' results and the recipe of their weights; see tests/golden/README.md."""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def case(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def outputs(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(FOLDER / f"{name}.npz").items()}


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def images(name: str) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).standard_normal(case(name)["input"]).astype(np.float32))


def targets(name: str) -> Tensor:
    return torch.from_numpy(np.random.default_rng(8).integers(0, case(name)["arguments"]["num_classes"], 2))


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_mean"):
        value = 0.1 * generator.standard_normal(shape)
    elif name.endswith("running_var"):
        value = generator.uniform(0.8, 1.2, shape)
    elif name.endswith("bias"):
        value = 0.1 * generator.standard_normal(shape)
    elif len(shape) == 1:
        value = generator.uniform(0.2, 0.6, shape)
    else:
        value = np.sqrt(2 / np.prod(shape[1:])) * generator.standard_normal(shape)
        value *= 16 if name == "att_conv3.weight" else 1
    return torch.from_numpy(value.astype(np.float32))
