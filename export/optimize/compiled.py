import threading
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Sequence[Tensor]]


class CompiledNetwork:
    """A network compiled by Inductor with its weights as constants ("frozen"); one call runs at a time.

    It is compiled anew for each shape of images, which takes a minute or so.

    Args:
        network: images -> a sequence of outputs, in evaluation mode; its weights do not change any more.
    """

    def __init__(self, network: nn.Module) -> None:
        def forward(images: Tensor) -> Sequence[Tensor]:
            return cast("Sequence[Tensor]", network(images))

        self._compiled: Forward = torch.compile(forward, dynamic=False, options={"freezing": True})
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """The outputs of images [N, C, H, W]."""
        with self._lock, torch.inference_mode(False), torch.no_grad():  # weights are not frozen in inference mode
            return self._compiled(images)
