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
from abn_fast.export.optimize.modes import MODES, forward_in
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


class InferenceNetworkInMode(InferenceNetwork):
    """The same, compiled or recorded; without gradients. Moved to another device, it is made ready anew.

    Args:
        network: whose branches it takes over.
        mode: compiled or cuda-graph.

    Raises:
        AbnFastError: its device has no such mode.
    """

    def __init__(self, network: InferenceNetwork, mode: str) -> None:
        super().__init__(network.branches, network.outputs, network.dtype)
        self.mode = mode
        self._make_ready()

    def forward(self, images: Tensor) -> Any:
        """As `InferenceNetwork.forward`."""
        return self._output(*self._forward(images))

    def extra_repr(self) -> str:
        """Outputs, dtype and mode, for print(network)."""
        return f"{super().extra_repr()}, mode={self.mode!r}"

    def _make_ready(self) -> None:
        device = next(self.parameters()).device
        self._forward = forward_in(self.mode, InferenceNetwork(self.branches, self.outputs, self.dtype).eval(), device)

    def _apply(self, function: Any, recurse: bool = True) -> "InferenceNetworkInMode":
        super()._apply(function, recurse)
        self._make_ready()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_forward"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._make_ready()


def optimize_for_inference(
    model: ImageNetwork,
    dtype: torch.dtype | None = None,
    outputs: Sequence[str] | None = None,
    mode: str = "eager",
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
        mode: eager; compiled, by Inductor with its weights as constants (a minute for each shape of images, then
            faster); or cuda-graph, of a model on a GPU, one recording for each shape. The last two give no gradients,
            and their weights may not change any more.

    Returns:
        A module whose forward returns a named tuple of exactly these outputs.

    Raises:
        AbnFastError: not a network of this library, an unknown dtype, output or mode, or a CUDA graph without a GPU.
    """
    check_network(model)
    checked_choice("mode", mode, MODES)
    outputs = checked_outputs(model, outputs)
    dtype = checked_choice("dtype", module_dtype(model) if dtype is None else dtype, DTYPES)
    network = copy.deepcopy(model).eval().requires_grad_(False)
    fold_convolution_norms(network)
    fold_projection_norms(network)
    inference = InferenceNetwork(make_branches(network, outputs, dtype), outputs, dtype).eval()
    inference = inference.to(dtype).to(memory_format=torch.channels_last)
    return inference if mode == "eager" else InferenceNetworkInMode(inference, mode).eval()


def check_network(model: ImageNetwork) -> None:
    """Refuse what is no network of this library."""
    if not isinstance(model, ImageNetwork):
        raise AbnFastError(
            f"{type(model).__name__} is no network of abn_fast: make one with create_model or from_backbone"
        )
