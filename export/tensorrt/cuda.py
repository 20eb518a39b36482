from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError


def card_target(device: int = 0) -> str:
    """The compute capability of a card, as sm_86."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def local_targets() -> list[str]:
    """The compute capabilities of the cards that torch finds here."""
    return [card_target(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


class Cuda:
    """A card's memory and streams, as torch shares them.

    Args:
        device: cuda or cuda:1; None for the first card.

    Raises:
        AbnFastError: no such card.
    """

    def __init__(self, device: str | None = None) -> None:
        kind, _, index = (device or "cuda").partition(":")
        if kind != "cuda" or not (index.isdigit() or not index):
            raise AbnFastError(f"device={device!r}: an engine runs on a GPU alone; take cuda or cuda:1")
        if not torch.cuda.is_available():
            raise AbnFastError("an engine runs on a GPU, and torch finds none here; run its ONNX file instead")
        self.device = torch.device("cuda", int(index or 0))
        if self.device.index >= torch.cuda.device_count():
            raise AbnFastError(f"device={device!r}: there are {torch.cuda.device_count()} GPUs here")
        self.target = card_target(self.device.index)
        self.name = torch.cuda.get_device_name(self.device)

    def current(self) -> AbstractContextManager[Any]:
        """Within it the card is the one that TensorRT uses, too."""
        return torch.cuda.device(self.device)

    def stream(self) -> Any:
        """A new one, which is not the default stream."""
        return torch.cuda.Stream(self.device)

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Within it torch's work goes to `stream`."""
        return torch.cuda.stream(stream)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Memory on the card, of the current stream."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def pinned(self, shape: tuple[int, ...]) -> Tensor:
        """Memory of the host that the card copies from and to while other work goes on."""
        return torch.empty(shape, pin_memory=True)

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor lies on the card."""
        return tensor.device == self.device

    def captured(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Work as a CUDA graph that starts all of it at once on the current stream; `work` ran before."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    def follow(self, stream: Any) -> None:
        """Have `stream` wait for what the caller's stream does now."""
        stream.wait_stream(torch.cuda.current_stream(self.device))

    def precede(self, stream: Any, tensors: tuple[Tensor, ...]) -> None:
        """Have the caller's stream wait for `stream`, whose work uses `tensors`."""
        caller = torch.cuda.current_stream(self.device)
        caller.wait_stream(stream)
        for tensor in tensors:
            tensor.record_stream(stream)
            tensor.record_stream(caller)
