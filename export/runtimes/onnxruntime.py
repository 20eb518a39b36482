from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.models._tracing import first_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRuntimeRunner:
    """An ONNX file in ONNX Runtime.

    Raises:
        AbnFastError: not a file of abn_fast's, truncated, or the device asked for does not load.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, options: RunnerOptions) -> None:
        onnxruntime = require("onnxruntime", extra="export", purpose=f"running {path.name}")
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind, _, index = device.partition(":")
        if kind not in ("cpu", "cuda"):
            raise AbnFastError(f"device={device!r}; onnxruntime takes cpu, cuda or cuda:1")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors; a provider that does not load is told below
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        wanted: list[Any] = [CPU] if kind == "cpu" else [(CUDA, {"device_id": int(index or 0)}), CPU]
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=wanted)
        except Exception as error:  # its classes have no common base but this
            raise AbnFastError(f"{path}: truncated, damaged or no ONNX file: {first_line(error)}") from None
        self.provider: str = self._session.get_providers()[0]
        if options.device is not None and kind == "cuda" and self.provider != CUDA:
            raise AbnFastError(f"{path}: onnxruntime cannot use {device!r} here and would run on {self.provider}")
        try:
            self.metadata = Metadata.from_json(self._session.get_modelmeta().custom_metadata_map.get(KEY))
        except AbnFastError as error:
            raise AbnFastError(f"{path}: {error}") from None
        if options.dtype is not None:
            raise AbnFastError(
                f"{path} is {self.metadata.precision}: dtype={options.dtype} is chosen when it is exported"
            )
        if options.outputs is not None:
            self.metadata = self.metadata.with_outputs(options.outputs, path.name)
        self._input = self._session.get_inputs()[0].name

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `Runner.run`."""
        computed = self._session.run(self.metadata.outputs, {self._input: images.numpy(force=True)})
        return tuple(torch.from_numpy(value) for value in computed)


def open_file(path: Path, options: RunnerOptions) -> OnnxRuntimeRunner:
    """The runner of an ONNX file."""
    return OnnxRuntimeRunner(path, options)
