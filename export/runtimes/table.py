from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.export.runtimes.runner import Runner, RunnerOptions


class Runtime(NamedTuple):
    """Where a runtime's code is, and which files it reads."""

    module: str
    """Has `open_file(path, options) -> Runner`."""
    suffixes: tuple[str, ...]


RUNTIMES = {
    "onnxruntime": Runtime("abn_fast.export.runtimes.onnxruntime", (".onnx",)),
    "tensorrt": Runtime("abn_fast.export.runtimes.tensorrt", (".plan",)),
    "tensorrt-rtx": Runtime("abn_fast.export.runtimes.tensorrt", (".engine",)),
    "openvino": Runtime("abn_fast.export.runtimes.openvino", (".xml", ".onnx")),
    "torch": Runtime("abn_fast.export.runtimes.torch", (".safetensors", ".pth", ".pt", ".tar")),
}
"""In the order in which `runtime="auto"` asks for a file's suffix; torch takes whatever no other does."""


def open_runner(path: Path, runtime: str = "auto", options: RunnerOptions | None = None) -> Runner:
    """A file made ready to run.

    Raises:
        AbnFastError: no such file, not abn_fast's, truncated, or an unknown runtime.
    """
    checked_choice("runtime", runtime, ["auto", *RUNTIMES])
    if not path.is_file():
        raise AbnFastError(f"{path}: no such file")
    fitting = [name for name, known in RUNTIMES.items() if path.suffix in known.suffixes]
    name = (fitting or ["torch"])[0] if runtime == "auto" else runtime
    if name not in (fitting or ["torch"]):
        raise AbnFastError(
            f"{path}: {name} reads {', '.join(RUNTIMES[name].suffixes)}; abn-fast export writes such files"
        )
    if options is not None and options.mode is not None and name != "torch":
        raise AbnFastError(f"mode={options.mode!r} is of torch, but {name} runs {path}")
    runner = import_module(RUNTIMES[name].module).open_file(path, options or RunnerOptions())
    return cast(Runner, runner)
