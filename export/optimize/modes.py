from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.compiled import CompiledNetwork
from abn_fast.export.optimize.cuda_graph import CudaGraphNetwork

MODES = ("eager", "compiled", "cuda-graph")
"""How torch computes a network: op by op; by Inductor, weights as constants; or replaying a recording on a GPU."""

Forward = Callable[[Tensor], Sequence[Tensor]]


def forward_in(mode: str, network: nn.Module, device: torch.device) -> Forward:
    """A network's forward without gradients in a mode.

    Args:
        mode: one of `MODES`.
        network: images -> a sequence of outputs, in evaluation mode, on the device.
        device: where it is.

    Raises:
        AbnFastError: an unknown mode, or one that the device has not.
    """
    checked_choice("mode", mode, MODES)
    if mode == "cuda-graph" and device.type != "cuda":
        raise AbnFastError(f"mode='cuda-graph' is of GPUs, but the device is '{device}': take mode='compiled'")
    if mode == "compiled":
        return CompiledNetwork(network)
    if mode == "cuda-graph":
        return CudaGraphNetwork(network, device)

    @torch.inference_mode()
    def eager(images: Tensor) -> Sequence[Tensor]:
        return cast("Sequence[Tensor]", network(images))

    return eager
