"""The gate's plugin for classic TensorRT, in a process where TensorRT-RTX's parser finds its library."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from abn_fast.export.tensorrt.flavour import RTX
from abn_fast.export.tensorrt.plugin.apart import _library

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
pytest.importorskip("triton", reason="the kernel is compiled by Triton")


def test_nvidias_python_layer_takes_it(tmp_path: Path) -> None:
    if find_spec("tensorrt_bindings") is None:
        pytest.skip("needs the Python layer of TensorRT's plugins: pip install tensorrt-cu13-bindings")
    with _library(RTX, tmp_path) as library:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment["LD_LIBRARY_PATH"] = library or ""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/export/classic_gate_plugin.py",
        ]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
