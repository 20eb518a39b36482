from itertools import chain
from pathlib import Path

from abn_fast._optional import require


def write_widened(source: Path, target: Path) -> None:
    """Write a bf16 ONNX file with its weights, exact, and its products in float32: for runtimes without bf16."""
    onnx = require("onnx", extra="export", purpose="running a bf16 file in float32")
    bfloat16, float32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
    model = onnx.load(source)
    tensors = list(model.graph.initializer)
    for node in chain(model.graph.node, *(function.node for function in model.functions)):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == bfloat16:
                attribute.i = float32
    for tensor in tensors:
        if tensor.data_type == bfloat16:
            values = onnx.numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, target)
