"""Work in fresh processes: what somebody waits for who starts one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TIMED = """
import json, sys, time
{before}
_started = time.perf_counter()
{code}
print("\\n" + json.dumps(time.perf_counter() - _started))
"""


def fresh_seconds(code: str, before: str = "", variables: Mapping[str, str] | None = None) -> float:
    """Seconds that code takes in a process of its own, after the code that is not timed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(variables or {})
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(before=before, code=code)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1]))
