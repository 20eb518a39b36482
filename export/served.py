"""Outputs computed from a network's own: probabilities, and the map at the image's size."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.export.optimize import InferenceNetwork, optimize_for_inference
from abn_fast.export.outputs import ATTENTION_UPSAMPLED, DERIVED, PROBABILITIES, checked_outputs, output_type
from abn_fast.modules import ImageNetwork


class ServedNetwork(nn.Module):
    """An `InferenceNetwork` whose outputs may also be derived ones.

    Args:
        network: has all that the outputs are made from.
        outputs: names, in order.
    """

    def __init__(self, network: InferenceNetwork, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs
        self._output = output_type(outputs)
        self.more_inputs: dict[str, tuple[int, ...]] = {}
        """Shapes, without the batch's, of what a file takes besides images."""

    def forward(self, images: Tensor) -> Any:
        """A named tuple of the outputs of images [N, C, H, W]."""
        results = self.network(images)._asdict()
        return self._output(*(output_of(name, results, images) for name in self.outputs))


def served_network(
    model: ImageNetwork, outputs: Sequence[str] | None = None, dtype: torch.dtype | None = None
) -> ServedNetwork:
    """`optimize_for_inference` with two outputs more: probabilities and attention_upsampled.

    probabilities is the softmax of the logits over the classes (a task's two answers), attention_upsampled the map at
    the image's size, bilinear: [N, 1, H, W].

    Raises:
        AbnFastError: unknown output or dtype.
    """
    names = checked_outputs(model, outputs, derived=True)
    sources = tuple(dict.fromkeys(DERIVED.get(name, name) for name in names))
    return ServedNetwork(optimize_for_inference(model, dtype, sources), names).eval()


def output_of(name: str, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """An output, derived from the network's own `results` for `images` if need be."""
    result = results[DERIVED.get(name, name)]
    if name == PROBABILITIES:
        return torch.softmax(result, -1)
    if name == ATTENTION_UPSAMPLED:
        return F.interpolate(result, images.shape[2:], mode="bilinear", align_corners=False)
    return result
