"""A network as an engine of TensorRT or TensorRT-RTX: built from its ONNX file, described beside itself, checked."""

from abn_fast.export.tensorrt.build import BuiltEngine, build_engine
from abn_fast.export.tensorrt.export import export_tensorrt
from abn_fast.export.tensorrt.flavour import FLAVOURS, Flavour
from abn_fast.export.tensorrt.sidecar import Sidecar

__all__ = ["FLAVOURS", "BuiltEngine", "Flavour", "Sidecar", "build_engine", "export_tensorrt"]
