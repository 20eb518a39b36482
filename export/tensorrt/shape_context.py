from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.export.onnx.program import INPUT
from abn_fast.export.tensorrt.cuda import Cuda
from abn_fast.export.tensorrt.flavour import Flavour

Shape = tuple[int, ...]


class ShapeContext:
    """An engine's execution context for one shape of input, with its own stream and memory; for one thread at a time.

    Images of the host pass through pinned buffers, and copies and network become one CUDA graph. Images on the card are
    read where they lie, and the outputs are new tensors there: no copy, and no graph, which would fix addresses.

    Args:
        engine: deserialised.
        module: that it is of.
        flavour: likewise.
        cuda: the card.
        shape: of the input.
        outputs: names of all outputs of the engine.

    Raises:
        AbnFastError: the engine does not take the shape.
    """

    def __init__(
        self, engine: Any, module: ModuleType, flavour: Flavour, cuda: Cuda, shape: Shape, outputs: tuple[str, ...]
    ) -> None:
        self._cuda = cuda
        self._flavour = flavour
        self.shape = shape
        self.stream = cuda.stream()
        self._context = _context(engine, module, flavour)
        if not self._context.set_optimization_profile_async(0, self.stream.cuda_stream):
            raise AbnFastError("the engine's optimisation profile cannot be chosen")
        if not self._context.set_input_shape(INPUT, shape):
            raise AbnFastError(f"the engine takes no images {list(shape)}")
        self._shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in outputs}
        with cuda.on(self.stream):
            needed = self._context.update_device_memory_size_for_shapes()
            self._memory = cuda.empty((max(needed, 1),), torch.uint8)
        self._context.set_device_memory(self._memory.data_ptr(), needed)
        self._host: _HostBuffers | None = None

    def run_here(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of images of the host, on the host."""
        with self._cuda.on(self.stream):
            buffers = self._host or _HostBuffers(self._cuda, self.shape, self._shapes)
            buffers.images.copy_(images)
            if buffers.replay is None:
                self._copied_run(buffers)
                self.stream.synchronize()
                buffers.replay = self._replay(buffers)
                self._host = buffers
            else:
                buffers.replay()
        self.stream.synchronize()
        return {name: value.clone() for name, value in buffers.outputs.items()}

    def run_there(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of images on the card, on the card; the caller's stream waits for them."""
        self._cuda.follow(self.stream)
        with self._cuda.on(self.stream):
            outputs = {name: self._cuda.empty(shape) for name, shape in self._shapes.items()}
            self._enqueue(images, outputs)
        self._cuda.precede(self.stream, (images, *outputs.values()))
        return outputs

    def _replay(self, buffers: "_HostBuffers") -> Callable[[], None]:
        if self._flavour.captures_graphs:
            return lambda: self._copied_run(buffers)
        return self._cuda.captured(lambda: self._copied_run(buffers), self.stream)

    def _copied_run(self, buffers: "_HostBuffers") -> None:
        buffers.images_there.copy_(buffers.images, non_blocking=True)
        self._enqueue(buffers.images_there, buffers.outputs_there)
        for name, value in buffers.outputs.items():
            value.copy_(buffers.outputs_there[name], non_blocking=True)

    def _enqueue(self, images: Tensor, outputs: dict[str, Tensor]) -> None:
        for name, tensor in {INPUT: images, **outputs}.items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise AbnFastError(f"the engine has no tensor {name!r}")
        if not self._context.execute_async_v3(self.stream.cuda_stream):
            raise AbnFastError(f"the engine does not run on images {list(self.shape)}")


class _HostBuffers:
    """Where images come from and outputs go to, at addresses that stay."""

    def __init__(self, cuda: Cuda, shape: Shape, outputs: dict[str, Shape]) -> None:
        self.images, self.images_there = cuda.pinned(shape), cuda.empty(shape)
        self.outputs = {name: cuda.pinned(each) for name, each in outputs.items()}
        self.outputs_there = {name: cuda.empty(each) for name, each in outputs.items()}
        self.replay: Callable[[], None] | None = None


def _context(engine: Any, module: ModuleType, flavour: Flavour) -> Any:
    """Its scratch memory is torch's, and as much as the shape needs, not as much as the largest one."""
    strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
    if not flavour.captures_graphs:
        return engine.create_execution_context(strategy)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)
