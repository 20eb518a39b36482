"""Functions in processes of their own: Triton decides when it is imported whether it interprets its kernels.

A function is named "module:name". It takes and returns what JSON can hold.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.kernels import _dispatch


def interpreted(function: str, *arguments: Any) -> Any:
    """What the function returns where Triton interprets: in this process if it does, else in another.

    Raises:
        AbnFastError: Triton is not installed, or the process failed.
    """
    if _dispatch.INTERPRETED:
        return _call(function, *arguments)
    if not _dispatch._HAS_TRITON:
        raise AbnFastError("Triton is not installed, whose interpreter runs the kernels: pip install triton")
    return apart(function, *arguments, TRITON_INTERPRET="1")


def apart(function: str, *arguments: Any, **environment: str) -> Any:
    """What the function returns in a fresh process with additions to the environment.

    Raises:
        AbnFastError: the process failed; the message holds what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", __name__, function, json.dumps(arguments), str(result)]
        done = subprocess.run(
            command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise AbnFastError(f"{function} failed:\n{done.stderr}")
        return json.loads(result.read_text(encoding="utf-8"))


def _call(function: str, *arguments: Any) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


if __name__ == "__main__":
    _, _function, _arguments, _result = sys.argv
    Path(_result).write_text(json.dumps(_call(_function, *json.loads(_arguments))), encoding="utf-8")
