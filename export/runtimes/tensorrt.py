from pathlib import Path

from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.export.tensorrt.accept import read_engine
from abn_fast.export.tensorrt.runner import EngineRunner


def open_file(path: Path, options: RunnerOptions) -> EngineRunner:
    """The runner of an engine, which is loaded after all checks of the file."""
    sidecar, flavour = read_engine(path)
    return EngineRunner(path, sidecar, flavour, options)
