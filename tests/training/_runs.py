"""What two runs left behind, compared."""

from pathlib import Path

import torch

from abn_fast.checkpoints import read_checkpoint


def assert_same_runs(one: Path, other: Path) -> None:
    """Weights, what training needs beside them, and metrics are the same bit by bit."""
    first, second = (read_checkpoint(folder / "last.safetensors") for folder in (one, other))
    for a, b in (
        (first.model.state_dict(), second.model.state_dict()),
        (first.training_tensors, second.training_tensors),
    ):
        assert list(a) == list(b)
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
