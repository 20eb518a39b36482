from typing import Any

_IN_8_BITS = {"Conv", "Relu", "QuantizeLinear", "DequantizeLinear"}
"""Operators whose result a runtime computes in 8 bits only where it is rounded to them."""


def keep_outputs_float(graph: Any) -> None:
    """Let an 8-bit graph's logits, probabilities and maps be what was computed, in place.

    Rounded, they would end at the largest value of the calibration images. What follows them is still rounded.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        restored = producers[output.name]
        rounded = producers.get(restored.input[0]) if restored.op_type == "DequantizeLinear" else None
        if rounded is None or rounded.op_type != "QuantizeLinear":
            continue
        exact = rounded.input[0]
        maker = producers.get(exact)
        if maker is None or maker.op_type in _IN_8_BITS:
            continue
        after = f"{output.name}_rounded"
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == output.name:
                    node.input[index] = after
                elif name == exact:
                    node.input[index] = output.name
        restored.output[0] = after
        maker.output[list(maker.output).index(exact)] = output.name
        if not any(after in node.input for node in graph.node):
            graph.node.remove(restored)
            graph.node.remove(rounded)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(tensor)
