from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.proof import Check
from abn_fast.export.tensorrt.accept import check_header
from abn_fast.export.tensorrt.build import PLUGIN, BuiltEngine
from abn_fast.export.tensorrt.flavour import Flavour
from abn_fast.export.tensorrt.log import totals
from abn_fast.export.tensorrt.sidecar import Sidecar

LEAST_WEIGHTS = 0.9
"""What an engine's weights are at least, as a share of its ONNX file's; padding makes them more."""


def build_record(built: BuiltEngine) -> dict[str, Any]:
    """What a build told about an engine, as plain values for the sidecar."""
    told = totals(built.log)
    return {
        "seconds": round(built.seconds, 3),
        "layers": built.layers,
        "weights_bytes": told.weights,
        "scratch_bytes": told.activations,
        "tensors": {name: [kind, list(shape)] for name, (kind, shape) in told.tensors.items()},
    }


def engine_checks(engine: Path, onnx: Path, sidecar: Sidecar, flavour: Flavour) -> tuple[Check, ...]:
    """What can be told about an engine without running it, each compared with the ONNX file that it was built from."""
    package = require("onnx", extra="export", purpose="the proof of an engine")
    graph = package.load(onnx).graph
    record = sidecar.build
    checks = [
        Check("parser", f"took all {len(graph.node)} nodes", True),
        _layers(graph, record["layers"], sidecar.plugin),
    ]
    if record["tensors"]:
        checks.append(_tensors(graph, record["tensors"]))
    if record["weights_bytes"] is not None:
        checks.append(_weights(graph, record["weights_bytes"]))
    if flavour.header:
        checks.append(_header(engine, sidecar))
    return tuple(checks)


def _layers(graph: Any, layers: dict[str, int], plugin: str | None) -> Check:
    kinds = [node.op_type for node in graph.node]
    pairs = {
        "convolutions": (layers.get("CONVOLUTION", 0), kinds.count("Conv")),
        "matrix products": (layers.get("MATRIX_MULTIPLY", 0), kinds.count("Gemm") + kinds.count("MatMul")),
    }
    if plugin is not None:
        pairs["plugins"] = (layers.get(PLUGIN, 0), kinds.count(plugin.rpartition("::")[2]))
    told = ", ".join(f"{ours} {name} of {expected}" for name, (ours, expected) in pairs.items())
    return Check("layers", f"{sum(layers.values())}, {told}", all(a == b for a, b in pairs.values()))


def _tensors(graph: Any, tensors: dict[str, Any]) -> Check:
    """Types and shapes of inputs and outputs; a side that varies fits any."""
    told, right = [], True
    for value in (*graph.input, *graph.output):
        expected = [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]
        kind, shape = tensors.get(value.name, ["missing", []])
        right &= kind == "Float" and _fits(shape, expected)
        told.append(f"{value.name} {kind} {shape}")
    return Check("inputs and outputs", ", ".join(told), right)


def _fits(shape: list[int], expected: list[int]) -> bool:
    return len(shape) == len(expected) and all(a == b or -1 in (a, b) for a, b in zip(shape, expected, strict=True))


def _weights(graph: Any, ours: int) -> Check:
    package = require("onnx", extra="export", purpose="the proof of an engine")
    expected = sum(package.numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)
    return Check("weights", f"{ours} bytes of {expected}", ours >= LEAST_WEIGHTS * expected)


def _header(engine: Path, sidecar: Sidecar) -> Check:
    try:
        header = check_header(engine, sidecar)
    except AbnFastError as error:
        return Check("header", str(error), False)
    return Check("header", f"{header.size} bytes, {header.version}, {', '.join(header.targets)}", True)
