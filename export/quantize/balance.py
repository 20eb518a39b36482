from collections.abc import Collection
from typing import Any

import numpy as np

from abn_fast._optional import require

LAYER = ".class_conv."
MOST = 8.0
"""Times the median that the largest weight of an input channel may be."""


def balance_class_conv(model: Any, kept: Collection[str] = ()) -> int:
    """Have the input channels of class_conv weigh about alike in a float32 ONNX model, in place; returns in how many.

    bn1, folded into class_conv, divides by each channel's standard deviation: a channel that is hardly ever active gets
    weights hundreds of times those of others, which one 8-bit scale an output channel would round to nothing. Channel i
    is multiplied by s_i = max(1, largest weight of i / the median of these) first, in a depthwise 1x1 convolution,
    whose scales in 8 bits are by channel, and the weights are divided by it: the network stays the same. Layers without
    a channel beyond `MOST` stay as they are.

    Args:
        model: its class_conv are changed.
        kept: names of nodes that stay float32.
    """
    onnx = require("onnx", extra="export", purpose="int8 export")
    weights = {each.name: each for each in model.graph.initializer}
    balanced = 0
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "Conv" or LAYER not in node.input[1] or node.name in kept:
            continue
        values = onnx.numpy_helper.to_array(weights[node.input[1]])  # [K, C, 1, 1]
        largest = np.abs(values).max((0, 2, 3))
        factors = np.maximum(1, largest / max(np.median(largest), np.finfo(np.float32).tiny)).astype(np.float32)
        if factors.max() <= MOST:
            continue
        name = f"{node.input[1].removesuffix('.weight')}.balance"
        scaled, scales = f"{name}.output", f"{name}.weight"
        model.graph.initializer.append(onnx.numpy_helper.from_array(factors.reshape(-1, 1, 1, 1), scales))
        weights[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(values / factors[:, None, None], node.input[1]))
        balance = onnx.helper.make_node(
            "Conv", [node.input[0], scales], [scaled], name, group=len(factors), kernel_shape=[1, 1]
        )
        node.input[0] = scaled
        model.graph.node.insert(place, balance)
        balanced += 1
    return balanced
