import tempfile
from pathlib import Path

from abn_fast.export.onnx.widen import write_widened
from abn_fast.export.runtimes import Runner, RunnerOptions, open_runner
from abn_fast.export.runtimes.onnxruntime import NotComputableError

WIDENED = "no bf16 in this runtime: the file's graph ran with its bf16 weights in float32 products"


def proof_runner(path: Path, runtime: str = "onnxruntime", device: str | None = "cpu") -> tuple[Runner, list[str]]:
    """What proves a file, and notes about it; a bf16 ONNX file that cannot be computed here runs widened to float32.

    Raises:
        AbnFastError: as of `open_runner`.
    """
    options = RunnerOptions(device=device)
    try:
        return open_runner(path, runtime, options), []
    except NotComputableError:
        with tempfile.TemporaryDirectory() as folder:
            widened = Path(folder) / path.name
            write_widened(path, widened)
            return open_runner(widened, runtime, options), [WIDENED]
