import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.export.metadata import Metadata
from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.export.tensorrt.accept import check_card, check_version
from abn_fast.export.tensorrt.cuda import Cuda
from abn_fast.export.tensorrt.failures import explained
from abn_fast.export.tensorrt.flavour import Flavour
from abn_fast.export.tensorrt.log import LogLine, errors, recording_logger
from abn_fast.export.tensorrt.plugin import PLUGIN_ID, register_for_running
from abn_fast.export.tensorrt.shape_context import Shape, ShapeContext
from abn_fast.export.tensorrt.sidecar import Sidecar

KEPT = 8
"""Contexts that wait for images of their shape again; the one that waited longest goes first."""


class EngineRunner:
    """An engine of TensorRT or TensorRT-RTX on a GPU.

    Outputs lie where the images do. Threads that run at once have a context and a stream each.

    Args:
        path: of the engine; it is read after all checks passed.
        sidecar: its own.
        flavour: likewise.
        options: how to run it.
        cuda: the card; by default the one in the options.

    Raises:
        AbnFastError: no GPU, another card or version than it was built for, or a value that an engine does not take.
    """

    def __init__(
        self, path: Path, sidecar: Sidecar, flavour: Flavour, options: RunnerOptions, cuda: Cuda | None = None
    ) -> None:
        if options.threads is not None:
            raise AbnFastError(f"threads={options.threads}: they are of the CPU, and an engine runs on a GPU")
        if options.dtype is not None:
            precision = sidecar.metadata.precision
            raise AbnFastError(f"{path} is {precision}: dtype={options.dtype} is chosen when it is exported")
        self._module = flavour.load(f"running {path.name}")
        check_version(path, sidecar, flavour, self._module.__version__)
        self._cuda = cuda or Cuda(options.device)
        check_card(path, sidecar, flavour, self._cuda.target)
        self._all_outputs = sidecar.metadata.outputs
        self.metadata: Metadata = sidecar.metadata
        if options.outputs is not None:
            self.metadata = self.metadata.with_outputs(options.outputs, path.name)
        self._flavour = flavour
        self._lines: list[LogLine] = []
        with self._cuda.current():
            self._runtime = self._module.Runtime(recording_logger(self._module, self._lines))
            self._engine: Any = self._loaded(path, sidecar)
        if self._engine is None:
            raise AbnFastError(f"{path} cannot be loaded: {explained(errors(self._lines))}")
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, ShapeContext] = OrderedDict()

    def _loaded(self, path: Path, sidecar: Sidecar) -> Any:
        if sidecar.plugin is None:
            return self._runtime.deserialize_cuda_engine(path.read_bytes())
        if sidecar.plugin != PLUGIN_ID:
            raise AbnFastError(f"{path} needs the plugin {sidecar.plugin}, and there is {PLUGIN_ID} alone")
        with register_for_running(self._module, self._flavour, self._runtime):
            return self._runtime.deserialize_cuda_engine(path.read_bytes())

    @property
    def runtime(self) -> str:
        """The flavour's name."""
        return self._flavour.name

    @property
    def provider(self) -> str:
        """The card, and the version that runs on it."""
        return f"{self._cuda.name}, {self._cuda.target}, {self._flavour.title} {self._module.__version__}"

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `Runner.run`.

        Raises:
            AbnFastError: more or fewer images, or of another size, than the engine takes.
        """
        self._check(tuple(images.shape))
        with self._cuda.current(), self._context(tuple(images.shape)) as context:
            if self._cuda.owns(images):
                results = context.run_there(images.contiguous())
            else:
                results = context.run_here(images)
        return tuple(results[name] for name in self.metadata.outputs)

    def _check(self, shape: Shape) -> None:
        metadata = self.metadata
        batch, channels, *size = shape
        fits = metadata.batch.low <= batch <= metadata.batch.high and channels == metadata.channels
        sides = zip(metadata.size.low, size, metadata.size.high, strict=True)
        if not (fits and all(low <= side <= high for low, side, high in sides)):
            raise AbnFastError(
                f"the engine takes {metadata.batch} images of {metadata.channels} channels and {metadata.size} pixels"
            )

    @contextmanager
    def _context(self, shape: Shape) -> Iterator[ShapeContext]:
        """A context of that shape that no other thread uses; it waits afterwards, unless it failed."""
        context = self._waiting(shape) or ShapeContext(
            self._engine, self._module, self._flavour, self._cuda, shape, self._all_outputs
        )
        yield context
        with self._lock:
            self._idle[id(context)] = context
            dropped = [self._idle.popitem(last=False)[1]] if len(self._idle) > KEPT else []
        for each in dropped:
            each.stream.synchronize()

    def _waiting(self, shape: Shape) -> ShapeContext | None:
        with self._lock:
            found = next((key for key, context in reversed(self._idle.items()) if context.shape == shape), None)
            return None if found is None else self._idle.pop(found)
