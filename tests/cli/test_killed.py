"""Training on the command line that is killed with signal 9 and started again by the same command."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training._runs import assert_same_runs

pytest.importorskip("sklearn")
ROOT = Path(__file__).parents[2]
RECIPE = """
model: {name: abn_cifar_resnet8, arguments: {width: 4}}
data: {data: digits-in-the-wild, size: 200, image_size: 32}
training:
  epochs: 3
  batch_size: 16
  checkpoint_steps: 2
  ema_decay: 0.9
  mix: {mixup: 0.2}
"""


def start(recipe: Path, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "abn_fast", "train", "--recipe", str(recipe), "--out", str(folder)]
    return subprocess.Popen(
        [*command, "--resume", "auto", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def kill_when(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], seconds: float = 0.0) -> bool:
    """Kill a process so many seconds after something has happened; whether it was still running."""
    while process.poll() is None and not ready():
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    return process.wait() != 0


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    recipe, whole, broken = tmp_path / "own.yaml", tmp_path / "whole", tmp_path / "broken"
    recipe.write_text(RECIPE)
    process = start(recipe, whole)
    while not (whole / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.001)
    began = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - began

    assert kill_when(start(recipe, broken), (broken / "run.json").exists)
    assert not (broken / "last.safetensors").exists()
    generator = random.Random(4)
    for _ in range(2):
        kill_when(start(recipe, broken), (broken / "last.safetensors").exists, generator.uniform(0.2, 0.5) * seconds)
    kill_when(start(recipe, broken), lambda: any(broken.glob(".last.*")))
    assert not (broken / "summary.json").exists()
    assert start(recipe, broken).wait() == 0
    assert_same_runs(whole, broken)
