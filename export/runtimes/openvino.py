import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.openvino.file import read_model
from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.models._tracing import first_line

HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO computes in, by precision; in an int8 file, what is not int8."""
DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class OpenVinoRunner:
    """An OpenVINO file, or an ONNX file, in OpenVINO on the CPU.

    Raises:
        AbnFastError: not a file of abn_fast's, damaged, or a device or dtype that it does not take.
    """

    runtime = "openvino"

    def __init__(self, path: Path, options: RunnerOptions) -> None:
        openvino = require("openvino", extra="openvino", purpose=f"running {path.name}")
        checked_choice("device", options.device or "cpu", ["cpu"])
        model, metadata = read_model(path)
        if options.dtype is not None:
            if metadata.precision == "int8":
                raise AbnFastError(f"{path} is int8: dtype={options.dtype} is chosen when it is exported")
            metadata = replace(metadata, precision=DTYPES[checked_choice("dtype", options.dtype, DTYPES)])
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[metadata.precision]}
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        try:
            self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise AbnFastError(f"{path} does not compile in OpenVINO: {first_line(error)}") from None
        self.metadata = metadata if options.outputs is None else metadata.with_outputs(options.outputs, path.name)
        devices = ",".join(self._compiled.get_property("EXECUTION_DEVICES"))
        computes = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.provider = f"{devices}, {computes}"
        self._outputs = [self._compiled.output(name) for name in self.metadata.outputs]
        self._of_thread = threading.local()

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `Runner.run`."""
        request = getattr(self._of_thread, "request", None)
        if request is None:  # one runs a batch at a time
            request = self._of_thread.request = self._compiled.create_infer_request()
        results = request.infer([images.numpy(force=True)], share_inputs=True)
        return tuple(torch.from_numpy(results[output]) for output in self._outputs)


def open_file(path: Path, options: RunnerOptions) -> OpenVinoRunner:
    """The runner of an OpenVINO or ONNX file."""
    return OpenVinoRunner(path, options)
