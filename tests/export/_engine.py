"""A stand-in for a card and for the runtime of TensorRT, which computes on the CPU with a network of torch."""

import ctypes
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from abn_fast.export.tensorrt.cuda import Cuda

NAMES = ("logits", "attention")


class HostCuda(Cuda):
    """Memory of the host in the role of a card's; tensors in `there` lie on the card."""

    def __init__(self, target: str = "sm_86") -> None:
        self.device, self.target, self.name = torch.device("cpu"), target, "Stand-in"
        self.there: set[int] = set()
        self.graphs = 0

    def current(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def stream(self) -> Any:
        return SimpleNamespace(cuda_stream=id(self), synchronize=lambda: None)

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def pinned(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, math.nan)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype) if dtype == torch.uint8 else torch.full(shape, math.nan)

    def owns(self, tensor: Tensor) -> bool:
        return tensor.data_ptr() in self.there

    def captured(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        self.graphs += 1
        return work

    def follow(self, stream: Any) -> None: ...

    def precede(self, stream: Any, tensors: tuple[Tensor, ...]) -> None: ...


class Context:
    """`IExecutionContext`: reads and writes memory at the addresses it was given."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.busy = threading.Lock()

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return profile_index == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "images"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.engine.compute(torch.zeros(self.shape))[name].shape)

    def update_device_memory_size_for_shapes(self) -> int:
        return 512

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory
        assert size == 512

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in ("images", *NAMES)

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.busy.acquire(blocking=False), "one context ran in two threads at once"
        try:
            outputs = self.engine.compute(memory(self.addresses["images"], self.shape))
            for name, value in outputs.items():
                memory(self.addresses[name], tuple(value.shape)).copy_(value)
        finally:
            self.busy.release()
        return True


class Engine:
    """`ICudaEngine`."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.contexts: list[Context] = []

    def compute(self, images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            output = self.model(images)
        return {name: getattr(output, name) for name in NAMES}

    def create_runtime_config(self) -> Any:
        strategies: list[Any] = []
        return SimpleNamespace(set_execution_context_allocation_strategy=strategies.append, strategies=strategies)

    def create_execution_context(self, config: Any) -> Context:
        own_graphs = isinstance(config, SimpleNamespace)
        assert config.strategies == ["user"] if own_graphs else config == "user"
        assert not own_graphs or config.cuda_graph_strategy == "whole"
        self.contexts.append(Context(self))
        return self.contexts[-1]


class Logger:
    """`ILogger`."""


def runtime_module(version: str, engine: Engine | None, error: str = "") -> Any:
    """What a flavour's module has for running engines."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            if engine is None:
                self.logger.log(SimpleNamespace(name="ERROR"), error)
            return engine

    return SimpleNamespace(
        __version__=version,
        ILogger=Logger,
        Runtime=Runtime,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"),
    )


def memory(address: int, shape: tuple[int, ...]) -> Tensor:
    """Float32 values at an address."""
    values = (ctypes.c_float * math.prod(shape)).from_address(address)
    return torch.frombuffer(values, dtype=torch.float32).view(shape)
