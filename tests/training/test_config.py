import json
import math
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


WORDS = st.sampled_from(["sgd", "step", "fp32", ""])
NUMBERS = st.integers(-3, 40) | st.floats() | st.sampled_from([math.inf, math.nan, -0.0, 10**400, 2**63])
JUNK = st.none() | st.booleans() | NUMBERS | WORDS | st.lists(NUMBERS, max_size=3)
TABLES = {name: hint for name, hint in get_type_hints(TrainingConfig).items() if is_dataclass(hint)}
SETTINGS: list[tuple[str, ...]] = [(setting.name,) for setting in fields(TrainingConfig)]
SETTINGS += [(table, setting.name) for table, hint in TABLES.items() for setting in fields(hint)]


@given(st.dictionaries(st.sampled_from(SETTINGS), JUNK, min_size=1, max_size=3))
@settings(max_examples=1000, deadline=None)
def test_any_values_are_refused_in_one_line_or_come_back_exactly(changed: dict[tuple[str, ...], Any]) -> None:
    values: dict[str, Any] = {}
    for (*table, name), value in changed.items():
        inner = values.setdefault(table[0], {}) if table else values
        if isinstance(inner, dict):
            inner[name] = value
    refusal, config = "", None
    try:
        config = TrainingConfig.from_dict(values)
    except AbnFastError as error:
        refusal = str(error)
    if config is None:
        assert "\n" not in refusal
        assert any(name in refusal for name in values)
    else:
        assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False))) == config
