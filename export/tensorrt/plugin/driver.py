import ctypes
import threading
from collections.abc import Sequence
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.tensorrt.plugin.kernel import ALIGNMENT, CompiledGate


class Driver:
    """CUDA's driver interface, as far as the gate's kernel needs it.

    Raises:
        AbnFastError: NVIDIA's bindings are not installed.
    """

    def __init__(self) -> None:
        self._cuda = require(
            "cuda.bindings.driver", extra="tensorrt-rtx", purpose="running an engine with the gate's plugin"
        )
        self._functions: dict[tuple[int, str], Any] = {}
        self._lock = threading.Lock()

    def load(self, gate: CompiledGate) -> Any:
        """The kernel on the current card; the driver translates its PTX once."""
        key = (int(self._call("cuCtxGetCurrent")), gate.ptx)
        with self._lock:
            if key not in self._functions:
                module = self._call("cuModuleLoadData", gate.ptx.encode() + b"\0")
                self._functions[key] = self._call("cuModuleGetFunction", module, gate.name.encode())
            return self._functions[key]

    def launch(
        self,
        gate: CompiledGate,
        batch: int,
        pixels: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        stream: int,
    ) -> None:
        """Start the kernel on a stream of the current card.

        Args:
            gate: that is compiled.
            batch: images.
            pixels: of the features.
            inputs: addresses of features and score.
            outputs: addresses of gated features and map.
            stream: of the card.

        Raises:
            AbnFastError: the card's driver refuses, or an address is not aligned.
        """
        if any(address % ALIGNMENT for address in (*inputs, *outputs)):
            raise AbnFastError(f"the gate's kernel takes tensors at multiples of {ALIGNMENT} bytes")
        division = gate.division
        programs = division.programs(batch, pixels)
        if not programs:
            return
        numbers = (division.splits, division.chunks, pixels)
        pointer = (ctypes.c_void_p,) * 2
        arguments = ((*inputs, *numbers, *outputs), (*pointer, *(ctypes.c_int32,) * len(numbers), *pointer))
        self._call(
            "cuLaunchKernel", self.load(gate), programs, 1, 1, gate.threads, 1, 1, gate.shared, stream, arguments, 0
        )

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status):
            raise AbnFastError(f"the gate's kernel does not run: {name} answers {status.name}")
        return results[0] if results else None
