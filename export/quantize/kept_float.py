from collections.abc import Collection
from typing import Any

from abn_fast._errors import AbnFastError

PRODUCTS = {"Conv", "Gemm", "MatMul"}
KEPT_FLOAT = {
    "first": "the first convolution",
    "last": "the classifiers",
    "map": "the convolutions from the attention branch's stage to the attention map",
}
"""Parts of a network that may stay float32 in an int8 file."""
_LAYERS = {"last": (".classifier.",), "map": (".class_conv.", ".map_conv.")}


def kept_nodes(graph: Any, parts: Collection[str]) -> list[str]:
    """Names of the nodes of an ONNX graph that make up these parts, and of those that no runtime computes in int8.

    Raises:
        AbnFastError: the network has no such part.
    """
    task_classifiers = _batched_products(graph)
    kept = list(task_classifiers)
    for part in parts:
        nodes = _first_products(graph) if part == "first" else _with_weights(graph, _LAYERS[part])
        if part == "last":
            nodes += task_classifiers
        if not nodes:
            raise AbnFastError(f"keep_float={part!r}, but the file has no such layer: {KEPT_FLOAT[part]}")
        kept += nodes
    return list(dict.fromkeys(kept))


def _first_products(graph: Any) -> list[str]:
    """The products that the images reach before any other product."""
    reached = {value.name for value in graph.input}
    first = []
    for node in graph.node:  # in topological order
        if reached.intersection(node.input):
            if node.op_type in PRODUCTS:
                first.append(node.name)
            elif node.op_type != "Shape":
                reached.update(node.output)
    return first


def _with_weights(graph: Any, layers: tuple[str, ...]) -> list[str]:
    return [
        node.name
        for node in graph.node
        if node.op_type in PRODUCTS and any(layer in name for name in node.input for layer in layers)
    ]


def _batched_products(graph: Any) -> list[str]:
    """Products whose weights are a matrix for each task: onnxruntime refuses their scales."""
    dimensions = {each.name: len(each.dims) for each in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and any(dimensions.get(name, 0) > 2 for name in node.input)
    ]
