"""Runs killed with signal 9 and started again end with the bits of unbroken ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training._runs import assert_same_runs

ROOT = Path(__file__).parents[2]
SETTINGS = {"checkpoint_steps": 2, "ema_decay": 0.9, "mix": {"mixup": 0.2}, "accumulation_steps": 2}


def command(folder: Path, *arguments: object, launcher: tuple[str, ...] = ()) -> list[str]:
    settings = ["--settings", json.dumps(SETTINGS)]
    return [sys.executable, "-m", *launcher, "tests.training._process", str(folder), *settings, *map(str, arguments)]


def start(folder: Path, *arguments: object, launcher: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(folder, *arguments, launcher=launcher),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    assert start(tmp_path / "whole").returncode == 0
    broken = tmp_path / "broken"
    for at in (4, 3):
        assert start(broken, "--kill-at", at).returncode == -signal.SIGKILL
        broken.with_suffix(".killed").unlink()
    done = start(broken)
    assert done.returncode == 0, done.stderr
    assert_same_runs(tmp_path / "whole", broken)


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m")


@pytest.mark.slow
def test_torchrun_restarts_two_processes_one_of_which_was_killed(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = start(whole, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr
    done = start(broken, "--kill-at", 4, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert broken.with_suffix(".killed").exists()
    assert_same_runs(whole, broken)
