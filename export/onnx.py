import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast._optional import require
from abn_fast.modules import ABNOutput, ImageNetwork

OPSET = 20
TOLERANCE = 1e-4


def export_onnx(model: ImageNetwork, path: str | Path, image_size: tuple[int, int]) -> dict[str, float]:
    """Write a model as ONNX of standard operators and compare it with the model in ONNX Runtime.

    Input "images" [batch, channels, height, width], float32, normalised; batch, height and width are dynamic. Outputs:
    "logits" [batch, K] and, of an attention branch network, "attention" [batch, 1, h, w]. The attention branch's
    classifier, which nobody asks for, is not in the file. The file appears only if the comparison holds.

    Args:
        model: any network of this library.
        path: of the file.
        image_size: (height, width) to trace and compare with; the comparison takes a second size too.

    Returns:
        For each output the largest difference over all comparisons, as a share of its largest value.

    Raises:
        AbnFastError: the packages of the export extra are missing, or the outputs differ by more than 1e-4.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="export", purpose="ONNX export")
    served = _Served(copy.deepcopy(model).cpu().float()).eval()
    differences: dict[str, float] = {}

    def write(temporary: Path) -> None:
        program = torch.onnx.export(
            served,
            (_images(model, 2, image_size),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=served.names,
            dynamic_shapes={"images": {0: "batch", 2: "height", 3: "width"}},
            verbose=False,
        )
        assert program is not None
        program.save(temporary)
        differences.update(_compare(temporary, served, image_size))

    write_atomically(Path(path), write)
    return differences


class _Served(nn.Module):
    """The outputs that are served, as a tuple."""

    def __init__(self, model: ImageNetwork) -> None:
        super().__init__()
        self.model = model
        self.names = ["logits", "attention"] if hasattr(model, "attention_branch") else ["logits"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.model(images)
        return (output.logits, output.attention) if isinstance(output, ABNOutput) else (output,)


def _images(model: ImageNetwork, batch: int, size: tuple[int, int]) -> Tensor:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, first.in_channels, *size, generator=generator)


def _compare(path: Path, served: _Served, size: tuple[int, int]) -> dict[str, float]:
    onnxruntime = require("onnxruntime", extra="export", purpose="ONNX export")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(served.names, 0.0)
    for batch, shape in ((1, size), (3, (size[0] + 32, size[1] + 64))):
        images = _images(served.model, batch, shape)
        with torch.inference_mode():
            expected = served(images)
        for name, ours, theirs in zip(
            served.names, expected, session.run(None, {"images": images.numpy()}), strict=True
        ):
            scale = max(ours.abs().max().item(), np.finfo(np.float32).tiny)
            difference = float(np.abs(ours.numpy() - theirs).max()) / scale
            worst[name] = max(worst[name], difference)
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise AbnFastError(f"the ONNX file's {name} differ from the model's by {difference:.1e} of their range")
    return worst
