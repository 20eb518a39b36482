"""A write that fails, for example on a full disk, leaves the run as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from abn_fast import AbnFastError, create_model
from abn_fast.training import TrainingConfig, train
from tests.training._data import stripes
from tests.training._runs import assert_same_runs

resource = pytest.importorskip("resource")
CONFIG = TrainingConfig(epochs=2, batch_size=32, seed=3)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writes beyond that many bytes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run(folder: Path, epochs: int = 2, resume: bool = False) -> None:
    torch.manual_seed(5)
    model = create_model("abn_cifar_resnet8", num_classes=3)
    config = replace(CONFIG, epochs=epochs, schedule=replace(CONFIG.schedule, name="constant"))
    train(model, stripes(), stripes(9, False), config, folder, resume=resume, log=lambda line: None)


def test_the_checkpoint_before_stays_whole_and_the_run_goes_on_from_it(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    run(broken, epochs=1)
    files = {path.name: path.read_bytes() for path in broken.iterdir()}
    size = len(files["last.safetensors"])
    with largest_file(size // 2), pytest.raises(AbnFastError, match=r"last\.safetensors cannot be written") as error:
        run(broken, resume=True)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in broken.iterdir()} == files
    run(broken, resume=True)
    assert_same_runs(whole, broken)


def test_a_picture_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Figure, path: Path, **options: object) -> None:
        path.write_bytes(b"half a pic")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", full)
        with pytest.raises(AbnFastError, match=r"curve\.png cannot be written: No space left on device"):
            run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.safetensors", "metrics.csv"}
    run(tmp_path, resume=True)
    assert (tmp_path / "curve.png").exists()


def test_what_a_killed_write_left_behind_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".last.safetensors.123.tmp.safetensors"
    left.write_bytes(b"half a checkpoint")
    other = tmp_path / ".gitignore"
    other.touch()
    run(tmp_path, epochs=1)
    assert not left.exists()
    assert other.exists()
