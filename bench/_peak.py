"""What a matrix product reaches on this machine, by precision: the measure of all networks."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

SIDE = 2048
DTYPES = {"fp32": [torch.float32], "bf16": [torch.bfloat16], "16 bit": [torch.bfloat16, torch.float16]}


@cache
def peak(precision: str) -> float:
    """Operations a second (two a multiplication and addition) of the fastest of some products of this precision.

    Args:
        precision: fp32, bf16, int8, or "16 bit": bf16 or fp16, whichever is faster.
    """
    if precision == "int8":
        runs = [_integer_product()]
    else:
        runs = [_float_product(dtype) for dtype in DTYPES[precision]]
    seconds = []
    for run in runs:
        run()
        for _ in range(8):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(seconds)


def _float_product(dtype: torch.dtype) -> Callable[[], Any]:
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    return lambda: left @ right


def _integer_product() -> Callable[[], Any]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(
        np.random.default_rng(0).integers(-99, 99, (SIDE, SIDE), dtype=np.int8), "weights"
    )
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["values", "weights"], ["product"])],
        "product",
        [helper.make_tensor_value_info("values", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [SIDE, SIDE])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = {"values": np.random.default_rng(1).integers(0, 99, (SIDE, SIDE), dtype=np.uint8)}
    return lambda: session.run(None, values)
