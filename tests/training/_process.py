"""A run of training in a process of its own, which a test may kill: python -m tests.training._process FOLDER ..."""

import argparse
import json
import os
import signal
from pathlib import Path

import torch

from abn_fast import create_model
from abn_fast.data import InMemoryImages
from abn_fast.training import TrainingConfig, train
from abn_fast.training.distributed import process_group
from tests.training._data import stripes


class Killing(InMemoryImages):
    """Kills its process with signal 9 when a batch is loaded, once: a file tells that it happened."""

    at = 0
    loaded = 0
    trace = Path()

    def __getitems__(self, indices: list[int]):  # type: ignore[no-untyped-def]  # as the base class
        self.loaded += 1
        if self.loaded == self.at and not self.trace.exists():
            self.trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitems__(indices)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, default={})
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    data = stripes()
    if options.kill_at and os.environ.get("LOCAL_RANK", "0") == "0":
        data.__class__ = Killing
        data.at, data.trace = options.kill_at, options.folder.with_suffix(".killed")  # type: ignore[attr-defined]  # Killing's
    config = TrainingConfig.from_dict({"epochs": 2, "batch_size": 20, "seed": 3} | options.settings)
    with process_group(torch.device("cpu")):
        torch.manual_seed(5)
        model = create_model("abn_wide_resnet10_1", num_classes=3, drop_rate=0.3)
        resume = (options.folder / "last.safetensors").exists()
        options.folder.mkdir(exist_ok=True)
        train(model, data, stripes(31, augment=False), config, options.folder, resume=resume, log=lambda line: None)


if __name__ == "__main__":
    main()
