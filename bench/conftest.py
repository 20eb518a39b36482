from fnmatch import fnmatch
from typing import Any

import pytest

from abn_fast.benchmark_report import Case

QUICK = (
    "test_cold_start.py::test_imports",
    "test_cold_start.py::test_a_model*",
    "test_cold_start.py::test_the_first*",
    "test_data.py::*abn_cifar_resnet20*",
    "test_explain.py::test_prediction_and_map*",
    "test_inference.py::*batch 1*",
    "test_kernels.py::*K 100,*",
    "test_kernels_cuda.py::*float16*",
    "test_scaling.py::*",
    "test_training.py::test_training_step[[]abn_cifar*",
    "test_training.py::test_parts*abn_cifar*",
)
"""The tests of the quick form."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("abn_fast")
    group.addoption("--quick", action="store_true", help="only a part of each suite, minutes in all")
    group.addoption(
        "--models", action="append", default=[], metavar="NAME", help="only cases of this model; * may stand in it"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "models(names): the models of a test whose parameters are no cases")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    patterns = config.getoption("--models")
    left_out = [
        item
        for item in items
        if (config.getoption("--quick") and not is_quick(item.nodeid))
        or (patterns and not any(fnmatch(model, pattern) for model in models_of(item) for pattern in patterns))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def is_quick(nodeid: str) -> bool:
    file, _, test = nodeid.partition("::")
    return any(fnmatch(f"{file.rpartition('/')[2]}::{test}", pattern) for pattern in QUICK)


def models_of(item: Any) -> set[str]:
    """Of the cases among a test's parameters, and of its marker."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = {value.model for value in parameters if isinstance(value, Case)}
    return named | {name for marker in item.iter_markers("models") for name in marker.args}
