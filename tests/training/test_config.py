import json
from typing import Any

import pytest

from abn_fast import AbnFastError
from abn_fast.training import OptimizerConfig, ScheduleConfig, TrainingConfig


def test_settings_come_back_from_json() -> None:
    config = TrainingConfig(
        schedule=ScheduleConfig("step", (3, 5)), optimizer=OptimizerConfig(nesterov=True), precision="fp32", clip_norm=1
    )
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_size": 2.5},
        {"optimizer": {"lr": 0}},
        {"optimizer": {"lr": float("nan")}},
        {"optimizer": {"lr": "0.1"}},
        {"optimizer": {"momentum": -1}},
        {"optimizer": {"nesterov": True, "momentum": 0}},
        {"optimizer": {"nesterov": 1}},
        {"optimizer": "sgd"},
        {"schedule": {"name": "linear"}},
        {"schedule": {"name": "step"}},
        {"schedule": {"milestones": [1.5]}},
        {"precision": "int4"},
        {"compile": True},
        {"loss": {"label_smoothing": 1.0}},
        {"mix": {"mixup": -0.1}},
        {"rand_augment": {"operations": -1}},
        {"rand_augment": {"magnitude": 31}},
        {"clip_norm": 0},
        {"ema_decay": 1.0},
        {"seed": None},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(AbnFastError, match=next(iter(values))) as refusal:
        TrainingConfig.from_dict(values)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "name"), [({"lr": 0.1}, "lr"), ({"optimizer": {"learning_rate": 0.1}}, "optimizer.learning_rate")]
)
def test_unknown_settings_are_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(AbnFastError, match=f"unknown setting {name}; expected one of"):
        TrainingConfig.from_dict(values)
