import json
from typing import Any

import pytest

from abn_fast import AbnFastError
from abn_fast.training import TrainingConfig


def test_settings_come_back_from_json() -> None:
    config = TrainingConfig(schedule="step", milestones=(3, 5), nesterov=True, precision="fp32")
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_size": 2.5},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"momentum": -1},
        {"schedule": "linear"},
        {"schedule": "step"},
        {"precision": "int4"},
        {"label_smoothing": 1.0},
        {"nesterov": True, "momentum": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(AbnFastError, match=next(iter(values))) as refusal:
        TrainingConfig(**values)
    assert "\n" not in str(refusal.value)


def test_unknown_settings_are_named() -> None:
    with pytest.raises(AbnFastError, match="unknown training settings \\['lr'\\]"):
        TrainingConfig.from_dict({"lr": 0.1})
