"""Steps do not wait for the device: on one without data, whoever reads a value fails."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

from abn_fast import create_model
from abn_fast.training import MixConfig, OptimizerConfig, TrainingConfig, trainer
from abn_fast.training.objective import Tally
from abn_fast.training.run import RunFolder
from tests.training._data import stripes

STEPS = 23


class Unread(trainer._Trainer):
    """Trains an epoch in which the readings that are meant to be are recorded in their place."""

    readings: list[int]

    def check_finite(self) -> None:
        self.readings.append(self.position.images)

    def finish_epoch(self, bar: Any) -> None:
        self.position.epoch += 1

    def summarise(self) -> dict[str, Any]:
        return {}


class Unfused(SGD):
    """Stands for a fused optimizer, which has no form for the meta device and takes `found_inf` unread."""

    found_inf: Any

    def step(self, closure: Any = None) -> Any:
        del self.found_inf
        return super().step(closure)


@pytest.fixture
def _without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        trainer, "make_optimizer", lambda model, config: Unfused(model.parameters(), momentum=0.9, foreach=True)
    )
    monkeypatch.setattr(Tally, "sums", lambda self: [])


def unread(settings: dict[str, Any], folder: Path) -> Unread:
    with torch.device("meta"):
        model = create_model("abn_cifar_resnet8", num_classes=3, width=4)
    data = stripes(2 * STEPS)
    config = TrainingConfig(epochs=1, batch_size=2, precision="fp32", optimizer=OptimizerConfig(), **settings)
    made = Unread(model, data, data, None, config, RunFolder(folder))
    made.readings = []
    return made


@pytest.mark.usefixtures("_without_data")
@pytest.mark.parametrize(
    "settings",
    [{}, {"clip_norm": 1.0, "accumulation_steps": 2, "ema_decay": 0.9, "mix": MixConfig(0.2, 1.0)}],
    ids=["plain", "everything"],
)
def test_values_are_read_every_tenth_step_and_never_between(settings: dict[str, Any], tmp_path: Path) -> None:
    made = unread(settings, tmp_path)
    made.run()
    assert made.readings == [2, 22, 42, 2 * STEPS]


@pytest.mark.usefixtures("_without_data")
def test_a_step_that_reads_its_loss_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "add", lambda self, loss, output, target: loss.item())
    with pytest.raises(RuntimeError, match="meta"):
        unread({}, tmp_path).run()
