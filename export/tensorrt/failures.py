import re
from collections.abc import Sequence

CURES = (
    ("FP32 GEMM is not supported", "sm_75 has no float32 matrix product: take --precision fp16, or leave sm_75 out"),
    (r"HW-specific datatypes: b16", "bf16 needs sm_80 or newer: take --precision fp16, or leave older targets out"),
    (r"HW-specific datatypes", "a target lacks the precision: take --precision fp16, or leave older targets out"),
    (
        "Non-zero zero point",
        "its ONNX file is quantised for CPUs, and an engine takes symmetric int8 alone: export it with this format",
    ),
    ("Plugin not found", "a node of its ONNX file is no standard operator: export it with --gate standard"),
    ("Failed to parse the ONNX model", "its ONNX file is truncated or damaged"),
    (
        "no CUDA-capable device|CUDA driver version is insufficient|CUDA initialization failure",
        "it needs a GPU and its driver, and there is none here",
    ),
)
"""A pattern in a builder's message, and what to do about it."""


def explained(messages: Sequence[str]) -> str:
    """One line about why an engine was not built or loaded: the cure if it is known, else the first message."""
    for pattern, cure in CURES:
        if any(re.search(pattern, message) for message in messages):
            return cure
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    return lines[0][:300] if lines else "it does not say why"
