from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from abn_fast._optional import require

LARGEST = 448.0
"""Of E4M3, as finite values and NaN alone (FN)."""
LARGEST_INT8 = 127.5
"""What an int8 scale is a range's largest magnitude divided by, at most."""


def int8_to_fp8(model: Any, weights: Mapping[str, Any]) -> None:
    """Have the 8 bits of a symmetric int8 ONNX model be E4M3 floating point, in place.

    An activation's scale is its largest magnitude on the calibration images / 448, a weight's that of its output
    channel / 448; weights are rounded from their float32 values.

    Args:
        model: quantised with symmetric int8 activations and weights.
        weights: arrays of the model that it was made from, by name.
    """
    onnx = require("onnx", extra="export", purpose="fp8 export")
    kept = {tensor.name: tensor for tensor in model.graph.initializer}

    def put(name: str, values: Any) -> None:
        kept[name].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))

    def put_fp8(name: str, values: Any) -> None:
        rounded = torch.from_numpy(np.asarray(values)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        raw = rounded.view(torch.uint8).numpy().tobytes()
        kept[name].CopyFrom(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT8E4M3FN, values.shape, raw, raw=True))

    done: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[1] in done:
            continue
        source, scale, zero = node.input
        done.add(scale)
        old = onnx.numpy_helper.to_array(kept[scale])
        if source in kept:  # weights, of which only the rounded values are left
            values = weights[source.removesuffix("_quantized")]
            axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
            others = tuple(side for side in range(values.ndim) if side != axis) if old.ndim else None
            largest = np.maximum(np.abs(values).max(others), np.finfo(np.float32).tiny * LARGEST)
            put(scale, largest / LARGEST)
            shape = [-1 if side == axis else 1 for side in range(values.ndim)] if old.ndim else []
            put_fp8(source, values / (largest / LARGEST).reshape(shape))
        else:
            put(scale, old * np.float32(LARGEST_INT8 / LARGEST))
        put_fp8(zero, np.zeros(old.shape, np.float32))
