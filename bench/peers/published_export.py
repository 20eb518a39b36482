from pathlib import Path

import onnxruntime
import openvino
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from torch import Tensor

from bench.peers.published_network import PublishedNetwork

OUTPUTS = ["attention_logits", "logits", "attention"]


def export_published(network: PublishedNetwork, path: Path) -> None:
    """The published network, in float32 or float16, as torch.onnx writes it, at any batch."""
    images = torch.zeros(2, 3, 224, 224, dtype=next(network.parameters()).dtype)
    shapes = {"images": {0: torch.export.Dim.DYNAMIC}}
    program = torch.onnx.export(
        network.eval(), (images,), dynamo=True, input_names=["images"], output_names=OUTPUTS, dynamic_shapes=shapes
    )
    assert program is not None
    program.save(path)


def quantize_published(source: Path, path: Path, images: Tensor) -> None:
    """The same in int8, as onnxruntime does by default for this CPU's instructions."""
    quantize_static(
        source,
        path,
        _Reader(images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


class OnnxRuntimePeer:
    """A file in onnxruntime, as its documentation runs it."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.half = self.session.get_inputs()[0].type == "tensor(float16)"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        names = [each.name for each in self.session.get_outputs()]
        results = self.session.run(names, {"images": (images.half() if self.half else images).numpy()})
        return {name: torch.from_numpy(result).float() for name, result in zip(names, results, strict=True)}


class OpenVinoPeer:
    """A file in OpenVINO, likewise."""

    def __init__(self, path: Path, computes: str) -> None:
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": computes})
        self.request = compiled.create_infer_request()
        self.outputs = {output.get_any_name(): output for output in compiled.outputs}

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        results = self.request.infer([images.numpy()], share_inputs=True)
        return {name: torch.from_numpy(results[output]) for name, output in self.outputs.items()}


class _Reader:
    def __init__(self, images: Tensor) -> None:
        self.batches = iter(images.split(4))

    def get_next(self) -> dict[str, object] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}
