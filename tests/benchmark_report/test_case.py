import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abn_fast.benchmark_report import Case, Comparison, Measured
from abn_fast.benchmark_report.case import amount
from tests.benchmark_report._made_up import BATCHES, GROWTH, comparison

CASE = Case("abn_resnet18", batch=2)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20))
def test_quartiles_are_numpy_s(values: list[float]) -> None:
    found = Measured.of("x", values)
    assert [found.lower, found.median, found.upper] == pytest.approx(np.percentile(values, [25, 50, 75]).tolist())


def test_less_is_better_and_the_ratio_is_the_peer_s_over_ours() -> None:
    assert comparison(CASE, 2, 3).ratio == 1.5
    assert not comparison(CASE, 2, 3).lost
    assert comparison(CASE, 3, 2).lost
    assert comparison(CASE, 3).ratio is None
    assert not comparison(CASE, 3).lost


def test_an_exponent_has_no_ratio_but_may_be_lost() -> None:
    assert GROWTH.ratio is None
    assert not GROWTH.lost
    assert comparison(CASE, 1.5, 1.0, quantity="exponent").lost


def test_a_difference_is_clear_where_quartiles_are_apart() -> None:
    assert comparison(CASE, 1.0, 1.3).clear
    assert comparison(CASE, 1.3, 1.0).clear
    assert not comparison(CASE, 1.0, 1.1).clear


def test_a_comparison_survives_json() -> None:
    for each in (*BATCHES, comparison(CASE, 1.0)):
        assert Comparison.from_json(json.loads(json.dumps(asdict(each)))) == each


def test_a_case_names_what_it_fixes_only() -> None:
    assert str(Case("abn_resnet18", batch=2, size=64, classes=7)) == (
        "abn_resnet18, K 7, batch 2, 64x64, inference, fp32, NCHW"
    )
    assert str(Case("import", mode="start", device="cuda")) == "import, start, fp32, NCHW, cuda"


@pytest.mark.parametrize(
    ("value", "quantity", "text"),
    [
        (1.234, "seconds", "1.23 s"),
        (0.01234, "seconds", "12.3 ms"),
        (1.234e-5, "seconds", "12.3 us"),
        (2.5e6, "bytes", "2.5 MB"),
        (2.5e9, "bytes", "2.5 GB"),
        (0.0123, "share", "1.23%"),
        (41.0, "launches", "41 launches"),
        (1.9876, "exponent", "1.99"),
    ],
)
def test_amounts_have_units(value: float, quantity: str, text: str) -> None:
    assert amount(value, quantity) == text
