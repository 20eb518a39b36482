from typing import Any

from abn_fast._optional import require


def products_as_convolutions(model: Any) -> int:
    """Have an ONNX model's fully connected layers become 1x1 convolutions, in place; returns how many.

    x W^T + b of x [N, C] is the convolution of x [N, C, 1, 1]. Turing (sm_75) has kernels for the one and, in float32
    and int8 engines of TensorRT-RTX, none for the other.
    """
    onnx = require("onnx", extra="export", purpose="building an engine")
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    rewritten = 0
    nodes: list[Any] = []
    for node in graph.node:
        weight = _weight(node, weights, makers, readers)
        if weight is None:
            nodes.append(node)
            continue
        weight.dims.extend([1, 1])
        (result,), base = node.output, node.name or node.output[0]
        spatial, flat = f"{base}_spatial", f"{base}_convolved"
        axes = onnx.helper.make_tensor(f"{base}_axes", onnx.TensorProto.INT64, [2], [2, 3])
        graph.initializer.append(axes)
        nodes += [
            onnx.helper.make_node("Unsqueeze", [node.input[0], axes.name], [spatial], f"{base}_unsqueeze"),
            onnx.helper.make_node("Conv", [spatial, *node.input[1:]], [flat], base, kernel_shape=[1, 1]),
            onnx.helper.make_node("Flatten", [flat], [result], f"{base}_flatten", axis=1),
        ]
        rewritten += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return rewritten


def _weight(node: Any, weights: dict[str, Any], makers: dict[str, Any], readers: dict[str, int]) -> Any:
    """The [K, C] weights of a fully connected layer that nothing else reads, perhaps before their dequantisation."""
    if node.op_type != "Gemm":
        return None
    given = {each.name: each.f if each.name in ("alpha", "beta") else each.i for each in node.attribute}
    if {"alpha": 1, "beta": 1, "transA": 0} | given != {"alpha": 1, "beta": 1, "transA": 0, "transB": 1}:
        return None
    name = node.input[1]
    while name in makers and makers[name].op_type in ("DequantizeLinear", "QuantizeLinear") and readers[name] == 1:
        name = makers[name].input[0]
    return weights.get(name) if readers[name] == 1 else None
