import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.onnx.program import INPUT
from abn_fast.export.tensorrt.cuda import card_target
from abn_fast.export.tensorrt.failures import explained
from abn_fast.export.tensorrt.flavour import RTX, Flavour
from abn_fast.export.tensorrt.log import LogLine, errors, recording_logger
from abn_fast.export.tensorrt.plugin import register_for_building
from abn_fast.export.tensorrt.plugin.apart import build_apart
from abn_fast.models._tracing import first_line

PLUGIN = "PLUGIN_V3"
"""The kind of a layer that is a plugin."""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine and what its making told about it."""

    engine: bytes
    metadata: Metadata
    version: str
    targets: tuple[str, ...]
    seconds: float
    layers: dict[str, int]
    """Of the network as the parser read it, by kind."""
    log: tuple[LogLine, ...]


def build_engine(
    onnx: Path, flavour: Flavour = RTX, targets: Sequence[str] | None = None, *, plugin: bool = False
) -> BuiltEngine:
    """Build an engine from an ONNX file of this library's, of the precision that is in the file (fp32 is no TF32).

    It takes the batches and sizes that the file's metadata state, and is fastest at their best ones. TensorRT-RTX
    needs no card for it; the engine is not run.

    Args:
        onnx: written by `export_onnx`, or quantised with symmetric int8.
        flavour: TensorRT-RTX or classic TensorRT.
        targets: compute capabilities, as sm_86; by default all from sm_80 on. Classic TensorRT: the card's own.
        plugin: whether the file's node abn_fast::attention_gate becomes the kernel of that name.

    Raises:
        AbnFastError: the flavour is not installed or has no such target, or the file cannot become an engine.
    """
    metadata = _metadata(onnx)
    chosen = flavour.checked_targets(None if targets is None else tuple(targets), metadata.precision)
    flavour.load(f"building {flavour.title} engines")
    if plugin:
        if metadata.gate != "function":
            raise AbnFastError(f"{onnx.name} has no node for the gate's plugin: export it with --gate function")
        return build_apart(onnx, flavour, chosen)
    return build_here(onnx, flavour, chosen)


def build_here(onnx: Path, flavour: Flavour, chosen: tuple[str, ...], *, plugin: bool = False) -> BuiltEngine:
    """`build_engine` in this process, for targets that are checked; a plugin stays registered in it."""
    metadata = _metadata(onnx)
    module = flavour.load(f"building {flavour.title} engines")
    lines: list[LogLine] = []
    start = time.perf_counter()
    builder = _builder(module, flavour, lines)
    kept = register_for_building(module, flavour, builder, chosen) if plugin else None
    network = parsed(module, builder, onnx, lines)
    layers = _layers(network)
    if plugin and not layers[PLUGIN]:
        raise AbnFastError(f"{flavour.title} takes the gate's plugin for what it has itself: leave it out")
    config = builder.create_builder_config()
    config.clear_flag(module.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, metadata))
    if chosen:
        config.num_compute_capabilities = len(chosen)
    for index, target in enumerate(chosen):
        config.set_compute_capability(getattr(module.ComputeCapability, target.replace("_", "").upper()), index)
    serialized = builder.build_serialized_network(network, config)
    del kept
    if serialized is None:
        raise AbnFastError(f"{onnx.name} becomes no {flavour.title} engine: {explained(errors(lines))}")
    return BuiltEngine(
        bytes(serialized),
        metadata,
        module.__version__,
        chosen or (card_target(),),
        time.perf_counter() - start,
        dict(sorted(layers.items())),
        tuple(lines),
    )


def parsed(module: ModuleType, builder: Any, onnx: Path, lines: list[LogLine]) -> Any:
    """The network in an ONNX file as the flavour's parser reads it.

    Raises:
        AbnFastError: the parser refuses the file.
    """
    typed = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = module.OnnxParser(network, builder.logger)
    if not parser.parse(onnx.read_bytes()):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        messages = [f"{error.desc()} ({error.node_operator()} {error.node_name()})" for error in found]
        raise AbnFastError(f"{onnx.name} is refused by the parser: {explained([*messages, *errors(lines)])}")
    return network


def _builder(module: ModuleType, flavour: Flavour, lines: list[LogLine]) -> Any:
    try:
        return module.Builder(recording_logger(module, lines))
    except Exception as error:  # classic TensorRT's own where there is no card
        why = explained(errors(lines)) if errors(lines) else first_line(error)
        raise AbnFastError(f"{flavour.title} cannot start here: {why}") from None


def _profile(builder: Any, metadata: Metadata) -> Any:
    shapes = [
        (getattr(metadata.batch, name), metadata.channels, *getattr(metadata.size, name))
        for name in ("low", "best", "high")
    ]
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *shapes)
    return profile


def _layers(network: Any) -> Counter[str]:
    return Counter(network.get_layer(index).type.name for index in range(network.num_layers))


def _metadata(onnx: Path) -> Metadata:
    package = require("onnx", extra="export", purpose="building an engine")
    try:
        model = package.load(onnx, load_external_data=False)
    except Exception as error:  # protobuf's own classes
        raise AbnFastError(f"{onnx}: truncated, damaged or no ONNX file: {first_line(error)}") from None
    try:
        return Metadata.from_json({each.key: each.value for each in model.metadata_props}.get(KEY))
    except AbnFastError as error:
        raise AbnFastError(f"{onnx}: {error}") from None
