import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

MOST = 16
"""Shapes that are kept; the one unused for longest makes way."""
WARM_UPS = 3


class CudaGraphNetwork:
    """A network on a GPU recorded as a CUDA graph for each shape of images; one call runs at a time.

    Args:
        network: images -> a sequence of outputs, in evaluation mode, on the GPU.
        device: that GPU.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._recordings: OrderedDict[torch.Size, _Recording] = OrderedDict()
        self._lock = threading.Lock()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """The outputs of images [N, C, H, W], in tensors of their own."""
        with self._lock:
            recording = self._recordings.pop(images.shape, None) or self._record(images)
            self._recordings[images.shape] = recording
            if len(self._recordings) > MOST:
                self._recordings.popitem(last=False)
            recording.images.copy_(images)
            recording.graph.replay()
            return [output.clone() for output in recording.outputs]

    def _record(self, images: Tensor) -> "_Recording":
        kept = torch.zeros(images.shape, device=self._device)
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):  # libraries choose and allocate before the recording, which forbids both
            for _ in range(WARM_UPS):
                self._network(kept)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph):
            outputs = self._network(kept)
        return _Recording(graph, kept, outputs)


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: Tensor
    outputs: Sequence[Tensor]
