"""What tensors the gate takes from TensorRT and TensorRT-RTX, whose names for types and formats are the same."""

from collections.abc import Sequence
from typing import Any

import torch

from abn_fast.export.tensorrt.plugin.layout import GateSpec

DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}
"""By TensorRT's name."""
LINEAR = "LINEAR"
PADDED = 8
"""Channels of which TensorRT's channels_last format in 16 bits holds a multiple, padded if need be."""


def feature_formats(dtype: str, channels: int) -> tuple[str, ...]:
    """Formats of features that the kernel reads as they are: contiguous, and channels_last where nothing is padded."""
    if dtype == "FLOAT":
        return LINEAR, "HWC"
    return (LINEAR, "HWC8") if channels % PADDED == 0 else (LINEAR,)


def gate_spec(
    features: Sequence[int], best: Sequence[int], maps: int, dtypes: tuple[str, str], feature_format: str, gate: str
) -> GateSpec:
    """A gate of features [N, C, H, W], whose sides that vary are negative.

    Args:
        features: their shape.
        best: the shape to be fastest at.
        maps: of a pixel.
        dtypes: of features and score, in TensorRT's names.
        feature_format: likewise.
        gate: residual or product.
    """
    fixed = min(features[2:]) > 0
    dtype, score_dtype = (DTYPES[name] for name in dtypes)
    pixels = best[2] * best[3]
    return GateSpec(
        features[1], maps, dtype, score_dtype, feature_format != LINEAR, gate == "residual", best[0], pixels, fixed
    )


def text(value: Any) -> str:
    """A field's characters; TensorRT-RTX ends them with a zero byte."""
    return bytes(value.tobytes() if hasattr(value, "tobytes") else value).rstrip(b"\0").decode()
