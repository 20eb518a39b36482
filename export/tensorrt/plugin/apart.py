"""Builds engines with plugins in a process of their own, by python -m and the name of this file."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from abn_fast._errors import AbnFastError
from abn_fast.export.tensorrt.flavour import FLAVOURS, Flavour

if TYPE_CHECKING:
    from abn_fast.export.tensorrt.build import BuiltEngine


def build_apart(onnx: Path, flavour: Flavour, targets: tuple[str, ...]) -> "BuiltEngine":
    """Build an engine with the gate's plugin in a process of its own.

    What is registered there stays there. And TensorRT-RTX's parser looks for plugins in a library by a name that its
    wheel does not have, and ends the process where it finds none; the loader searches where it was told to at start.

    Raises:
        AbnFastError: as of `build_engine`, or the process ended otherwise.
    """
    with tempfile.TemporaryDirectory() as folder, _library(flavour, Path(folder)) as library:
        result = Path(folder) / "result"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        searched = [library, os.environ.get("LD_LIBRARY_PATH")]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, searched))
        command = [sys.executable, "-m", __name__, str(onnx), flavour.name, ",".join(targets), str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if not result.is_file():
            lines = done.stderr.strip().splitlines() or ["it does not say why"]
            raise AbnFastError(f"building with the gate's plugin ended with exit code {done.returncode}: {lines[-1]}")
        answer = pickle.loads(result.read_bytes())
    if isinstance(answer, AbnFastError):
        raise answer
    return cast("BuiltEngine", answer)


@contextmanager
def _library(flavour: Flavour, folder: Path) -> Iterator[str | None]:
    """A folder in which the flavour's library also has the name without a version; None where nothing is known."""
    try:
        spec = find_spec(f"{flavour.module}_libs")
    except ImportError:
        spec = None
    name = f"lib{flavour.module}.so"
    found = [
        path for place in (spec and spec.submodule_search_locations) or () for path in Path(place).glob(f"{name}.*")
    ]
    if not found:
        yield None
        return
    (folder / name).symlink_to(found[0])
    yield str(folder)


def _main(onnx: str, flavour: str, targets: str, result: str) -> None:
    from abn_fast.export.tensorrt.build import build_here

    chosen = tuple(filter(None, targets.split(",")))
    try:
        answer: object = build_here(Path(onnx), FLAVOURS[flavour], chosen, plugin=True)
    except AbnFastError as error:
        answer = AbnFastError(str(error))
    Path(result).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
