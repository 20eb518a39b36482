import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.onnx.program import set_metadata
from abn_fast.export.proof.proof import CALIBRATED
from abn_fast.export.quantize.balance import balance_class_conv
from abn_fast.export.quantize.float_outputs import keep_outputs_float
from abn_fast.export.quantize.fp8 import int8_to_fp8
from abn_fast.export.quantize.kept_float import kept_nodes
from abn_fast.export.quantize.quantization import KINDS, Kind, check_kind
from abn_fast.models._tracing import first_line

OPERATORS = {
    "cpu": ["Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "Concat"],
    "tensorrt": ["Conv", "Gemm"],
}
"""Where the int8 is, by kind. A CPU gains from sums and pools in 8 bits too; TensorRT places them itself. Maps and
probabilities, from sigmoid and softmax on, are float32 in both."""


def quantize_onnx(
    source: Path,
    target: Path,
    images: Iterable[Tensor],
    *,
    precision: str = "int8",
    kind: Kind = "cpu",
    keep_float: Collection[str] = (),
    count: int | None = None,
    progress: bool | None = None,
) -> Metadata:
    """Write a float32 ONNX file of this library in 8 bits, with QuantizeLinear and DequantizeLinear nodes.

    Weights are symmetric int8, one scale an output channel; activations have one scale a tensor, from their least and
    largest value on the calibration images: uint8 with a zero point for CPUs, symmetric int8 for TensorRT, whose biases
    stay float32. In fp8, which is TensorRT's, both are E4M3 in the same places (`int8_to_fp8`).

    Args:
        source: written by `export_onnx` in fp32.
        target: written anew.
        images: normalised batches, float32 [n, C, H, W], of sizes that the file takes.
        precision: int8 or fp8.
        kind: cpu or tensorrt.
        keep_float: parts that stay float32: first, last, map.
        count: of the images, for the progress bar.
        progress: whether to show one; by default in a terminal.

    Returns:
        The metadata in the file.

    Raises:
        AbnFastError: not such a file, or it has no such part.
    """
    checked_choice("quantize_for", kind, KINDS)
    checked_choice("precision", precision, CALIBRATED)
    check_kind(precision, kind)
    onnx = require("onnx", extra="export", purpose=f"{precision} export")
    onnxruntime = require("onnxruntime", extra="export", purpose=f"{precision} export")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(source)
    metadata = Metadata.from_json({each.key: each.value for each in model.metadata_props}.get(KEY))
    if metadata.precision != "fp32":
        raise AbnFastError(f"{source.name} is {metadata.precision}: {precision} is made from fp32")
    kept = kept_nodes(model.graph, keep_float)
    symmetric = kind == "tensorrt"
    balance_class_conv(model, kept)
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    add_pre_process_metadata(model)  # else onnxruntime warns; the exporter has optimised already
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=count, desc="calibrating", unit="img", disable=None if progress is None else not progress) as bar,
    ):
        quantized = Path(folder) / "quantized.onnx"
        try:
            quantize_static(
                model,
                str(quantized),
                _Reader(model.graph.input[0].name, images, bar),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS[kind],
                nodes_to_exclude=kept,
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_providers=["CPUExecutionProvider"],
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": not symmetric,
                },
            )
        except Exception as error:  # onnxruntime's have no common base but this
            raise AbnFastError(f"{source.name} cannot be made {precision}: {first_line(error)}") from error
        model = onnx.load(quantized)
    keep_outputs_float(model.graph)
    if precision == "fp8":
        int8_to_fp8(model, weights)
    versions = metadata.versions | {"onnxruntime": onnxruntime.__version__}
    written = replace(metadata, precision=precision, versions=versions)
    set_metadata(model, written)
    onnx.save(model, target)
    onnx.checker.check_model(str(target), full_check=True)
    return written


class _Reader:
    """The images as onnxruntime asks for them."""

    def __init__(self, name: str, images: Iterable[Tensor], bar: Any) -> None:
        self._name, self._images, self._bar = name, iter(images), bar

    def get_next(self) -> dict[str, Any] | None:
        images = next(self._images, None)
        if images is None:
            return None
        self._bar.update(len(images))
        return {self._name: images.numpy()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.get_next, None)
