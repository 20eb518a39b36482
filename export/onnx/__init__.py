"""A network as an ONNX file of standard operators, compared with the network in ONNX Runtime."""

from abn_fast.export.onnx.export import export_onnx
from abn_fast.export.onnx.summary import onnx_summary

__all__ = ["export_onnx", "onnx_summary"]
