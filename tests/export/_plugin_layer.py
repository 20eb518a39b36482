"""The Python layer of classic TensorRT's plugins, on the symbols and tensors of TensorRT-RTX."""

import enum
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from onnx import TensorProto, helper


class Request(enum.Enum):
    """`QuickPluginCreationRequest`."""

    STRICT_AOT = enum.auto()


@contextmanager
def classic_tensorrt() -> Iterator[Any]:
    """A package `tensorrt` whose plugin layer is NVIDIA's own, and what is compiled TensorRT-RTX's.

    What TensorRT-RTX lacks is only inherited from, or named, by that layer.
    """
    rtx = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    spec = find_spec("tensorrt_bindings")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("needs the Python layer of TensorRT's plugins: pip install tensorrt-cu13-bindings")
    package: Any = ModuleType("tensorrt")
    package.__dict__.update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    package.__dict__.pop("plugin", None)
    package.__path__ = list(spec.submodule_search_locations)
    package.__version__ = "11.0"
    package.ISymExpr = type("ISymExpr", (), {"__init__": lambda self: None})
    package.IPluginV3QuickAOTBuild = type("IPluginV3QuickAOTBuild", (), {"__init__": lambda self: None})
    package.QuickPluginCreationRequest = Request
    registry = rtx.Builder(rtx.Logger(rtx.Logger.ERROR)).get_plugin_registry()
    package.get_plugin_registry = lambda: registry
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "tensorrt"}
    for name in kept:
        del sys.modules[name]
    sys.modules["tensorrt"] = package
    try:
        package.plugin = import_module("tensorrt.plugin")
        yield package
        for creator in filter(None, package.plugin._lib.QDP_CREATORS.values()):
            registry.deregister_creator(creator)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt"]:
            del sys.modules[name]
        sys.modules.update(kept)


def with_expressions(shapes: list[tuple[int, ...]], evaluate: Callable[[Any, Any], None]) -> None:
    """Call `evaluate(expressions of the shapes, builder of expressions)`, which only live inside TensorRT-RTX."""
    rtx: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    raised: list[BaseException] = []
    called: list[bool] = []

    class Probe(rtx.IPluginV3, rtx.IPluginV3OneCore, rtx.IPluginV3OneBuild):
        def __init__(self) -> None:
            for base in (rtx.IPluginV3, rtx.IPluginV3OneCore, rtx.IPluginV3OneBuild):
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version, self.num_outputs = "probe", "probes", "1", 1

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Probe()

        def get_output_data_types(self, input_types: Any) -> list[Any]:
            return [input_types[0]]

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> list[Any]:
            called.append(True)
            try:
                evaluate(inputs, builder)
            except BaseException as error:  # TensorRT-RTX would swallow it
                raised.append(error)
            return [rtx.DimsExprs(inputs[0])]

    class Creator(rtx.IPluginCreatorV3One):
        def __init__(self) -> None:
            rtx.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = "probe", "probes", "1"
            self.field_names = rtx.PluginFieldCollection([])

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            return Probe()

    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    registry, creator = builder.get_plugin_registry(), Creator()
    assert registry.register_creator(creator, "probes")
    try:
        network = builder.create_network(0)
        parser = rtx.OnnxParser(network, logger)
        parser.parse(_probed(shapes))
    finally:
        registry.deregister_creator(creator)
    if raised:
        raise raised[0]
    assert called


def _probed(shapes: list[tuple[int, ...]]) -> bytes:
    """An ONNX file with one node, `probe`, of inputs of these shapes."""
    names = [f"input{place}" for place in range(len(shapes))]
    node = helper.make_node("probe", names, ["output"], domain="probes", plugin_version="1", plugin_namespace="probes")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT16, shapes[0])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("probes", 1)]
    graph = helper.make_graph([node], "probed", inputs, [output])
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return content
