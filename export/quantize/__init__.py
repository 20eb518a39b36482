"""8-bit ONNX files: products of int8, calibrated on images."""

from abn_fast.export.quantize.calibration import CalibrationImages
from abn_fast.export.quantize.kept_float import KEPT_FLOAT
from abn_fast.export.quantize.program import calibration_images, check_quantization, write_quantized_program
from abn_fast.export.quantize.quantization import KINDS, Quantization, make_quantization
from abn_fast.export.quantize.quantize import quantize_onnx

__all__ = [
    "KEPT_FLOAT",
    "KINDS",
    "CalibrationImages",
    "Quantization",
    "calibration_images",
    "check_quantization",
    "make_quantization",
    "quantize_onnx",
    "write_quantized_program",
]
