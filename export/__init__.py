"""A model in, a deployable file and its proof out."""

from abn_fast.export.onnx import export_onnx

__all__ = ["export_onnx"]
