from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError, one_line
from abn_fast._optional import require
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.models._tracing import first_line

FP8 = "float8"
"""In onnxruntime's messages."""
ATTENTION_OVERRIDE, ATTENTION_MASK = "attention_override", "attention_mask"
"""Inputs of a file exported with gate="editable"."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class NotComputableError(AbnFastError):
    """A sound file with operators that onnxruntime lacks on this device."""


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
        self._session, self.metadata = _session(onnxruntime, path, settings, wanted)
        self.provider: str = self._session.get_providers()[0]
        if options.device is not None and kind == "cuda" and self.provider != CUDA:
            raise AbnFastError(f"{path}: onnxruntime cannot use {device!r} here and would run on {self.provider}")
        if options.dtype is not None:
            raise AbnFastError(
                f"{path} is {self.metadata.precision}: dtype={options.dtype} is chosen when it is exported"
            )
        if options.outputs is not None:
            self.metadata = self.metadata.with_outputs(options.outputs, path.name)
        lacking = set(self.metadata.outputs) - {each.name for each in self._session.get_outputs()}
        if lacking or not self._session.get_inputs():
            missing = one_line(", ".join(sorted(lacking)) or "an input", 500)
            raise AbnFastError(f"{path}: damaged: its network lacks {missing}")
        first, *more = self._session.get_inputs()
        self._input = first.name
        self.map_size: tuple[int, int] | None = next(
            (tuple(each.shape[2:]) for each in more if each.name == ATTENTION_OVERRIDE), None
        )

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `Runner.run`."""
        if self.map_size is None:
            return self._run({self._input: images})
        nothing = torch.zeros(len(images), 1, *self.map_size)
        return self.run_edited(images, nothing, nothing)

    def run_edited(self, images: Tensor, override: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """`run` with maps [N, 1, h, w] in the place of the network's own where mask is 1; of a file with map_size."""
        return self._run({self._input: images, ATTENTION_OVERRIDE: override, ATTENTION_MASK: mask})

    def _run(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        given = {name: value.numpy(force=True) for name, value in inputs.items()}
        return tuple(torch.from_numpy(value) for value in self._session.run(self.metadata.outputs, given))


def _session(module: ModuleType, path: Path, settings: Any, providers: list[Any]) -> tuple[Any, Metadata]:
    """A session and what its file says; an fp8 file's without fusions, which take its products for those of int8."""
    try:
        session = module.InferenceSession(str(path), settings, providers=providers)
        metadata = _metadata(path, session)
        if metadata.precision != "fp8":
            return session, metadata
    except AbnFastError:
        raise
    except Exception as error:  # its classes have no common base but this
        if FP8 not in str(error):
            raise _refusal(path, error) from None
    settings.graph_optimization_level = module.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = module.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # likewise
        raise _refusal(path, error) from None
    return session, _metadata(path, session)


def _metadata(path: Path, session: Any) -> Metadata:
    try:
        return Metadata.from_json(session.get_modelmeta().custom_metadata_map.get(KEY))
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {error}") from None


def _refusal(path: Path, error: Exception) -> AbnFastError:
    if type(error).__name__ != "NotImplemented":
        return AbnFastError(f"{path}: truncated, damaged or no ONNX file: {one_line(first_line(error), 500)}")
    return NotComputableError(
        f"{path} is sound, but onnxruntime cannot compute it here, as bf16 convolutions on a CPU: run it on a GPU "
        f"(--device cuda), or export fp32 or int8 for CPUs ({first_line(error)})"
    )


def open_file(path: Path, options: RunnerOptions) -> OnnxRuntimeRunner:
    """The runner of an ONNX file."""
    return OnnxRuntimeRunner(path, options)
