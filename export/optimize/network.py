import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.branches import make_branches
from abn_fast.export.optimize.fold_convolution_norms import fold_convolution_norms
from abn_fast.export.optimize.fold_projection_norms import fold_projection_norms
from abn_fast.export.outputs import checked_outputs, output_type
from abn_fast.models._meta import module_dtype
from abn_fast.modules import ImageNetwork

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class InferenceNetwork(nn.Module):
    """What `optimize_for_inference` returns: images -> a named tuple of the chosen outputs.

    Args:
        branches: images -> outputs by name.
        outputs: the names, in order.
        dtype: of the products.
    """

    def __init__(self, branches: nn.Module, outputs: tuple[str, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.branches = branches
        self.outputs = outputs
        self.dtype = dtype
        self._output = output_type(outputs)

    def forward(self, images: Tensor) -> Any:
        """The outputs, in float32 (float64 of a float64 network), of images [N, C, H, W] of any floating dtype."""
        results = self.branches(images.to(self.dtype))
        return self._output(*(results[name].to(kernels.accumulator(self.dtype)) for name in self.outputs))

    def extra_repr(self) -> str:
        """Outputs and dtype, for print(network)."""
        return f"outputs={self.outputs}, dtype={self.dtype}"


def optimize_for_inference(
    model: ImageNetwork, dtype: torch.dtype | None = None, outputs: Sequence[str] | None = None
) -> InferenceNetwork:
    """A copy of a network that computes the same with less work, in evaluation mode and channels_last.

    Each batch norm that directly follows a convolution is folded into it, bn1 and bn2 into class_conv, bn3 into
    map_conv; a multi-task network's norms behind the gate into the 1x1 convolutions before it; branches that no output
    needs are left out. In float32 the outputs agree with the model's to 1e-5 of their range.

    Args:
        model: any network of this library; it stays as it is.
        dtype: of the products: float32, float16, bfloat16 or float64; the model's own by default. Norms are folded in
            float64 and rounded once.
        outputs: any of logits, attention, attention_logits and class_evidence (the K maps a), in the order in which
            they are returned; by default logits and, where there is one, attention.

    Returns:
        A module whose forward returns a named tuple of exactly these outputs.

    Raises:
        AbnFastError: not a network of this library, or an unknown dtype or output.
    """
    check_network(model)
    outputs = checked_outputs(model, outputs)
    dtype = checked_choice("dtype", module_dtype(model) if dtype is None else dtype, DTYPES)
    network = copy.deepcopy(model).eval().requires_grad_(False)
    fold_convolution_norms(network)
    fold_projection_norms(network)
    inference = InferenceNetwork(make_branches(network, outputs, dtype), outputs, dtype).eval()
    return inference.to(dtype).to(memory_format=torch.channels_last)


def check_network(model: ImageNetwork) -> None:
    """Refuse what is no network of this library."""
    if not isinstance(model, ImageNetwork):
        raise AbnFastError(
            f"{type(model).__name__} is no network of abn_fast: make one with create_model or from_backbone"
        )
