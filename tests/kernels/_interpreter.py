import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_in_interpreter(name: str, *options: str) -> None:
    """Run a file of tests in a process where Triton interprets: it decides that when it is imported.

    Options are pytest's: "-m", "slow" runs the slow tests alone.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/kernels/{name}", *options]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
