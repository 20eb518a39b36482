from dataclasses import replace

import pytest

from abn_fast.benchmark_report import Case, slower
from abn_fast.benchmark_report.against import in_common
from tests.benchmark_report._made_up import comparison, results

CASE = Case("abn_resnet18", batch=1)
BEFORE = results(comparison(CASE, 1.0, 2.0))


def changes(ours: float, peer: float | None = 2.0) -> list[float]:
    return [change.factor for change in slower(results(comparison(CASE, ours, peer)), BEFORE)]


def test_what_takes_longer_than_the_quartiles_allow_is_flagged() -> None:
    assert changes(1.5) == [pytest.approx(1.5)]


def test_noise_is_not_flagged() -> None:
    assert changes(1.2) == []  # its lower quartile is 1.08, the earlier upper one 1.1
    assert changes(0.5) == []


def test_a_slower_machine_is_not_flagged() -> None:
    assert changes(3.0, 6.0) == []
    assert changes(6.0, 6.0) == [pytest.approx(2.0)]


def test_a_faster_machine_hides_nothing() -> None:
    assert changes(1.0, 1.0) == [pytest.approx(2.0)]


def test_without_a_peer_the_time_itself_counts() -> None:
    before, now = (results(comparison(CASE, seconds)) for seconds in (1.0, 2.0))
    assert [change.factor for change in slower(now, before)] == [pytest.approx(2.0)]


def test_memory_is_compared_as_it_is() -> None:
    before = results(comparison(CASE, 1e6, 4e6, quantity="bytes"))
    now = results(comparison(CASE, 2e6, 8e6, quantity="bytes"))
    assert [change.factor for change in slower(now, before)] == [pytest.approx(2.0)]


def test_other_cases_and_peers_are_not_compared() -> None:
    found = comparison(CASE, 9.0, 2.0)
    now = results(
        replace(found, case=replace(CASE, batch=2)),
        replace(found, suite="other"),
        replace(found, ours=replace(found.ours, name="compiled")),
        replace(found, quantity="bytes"),
    )
    assert slower(now, BEFORE) == []
    assert in_common(now, BEFORE) == 0
    assert in_common(BEFORE, BEFORE) == 1


def test_the_worst_comes_first() -> None:
    cases = [replace(CASE, batch=n) for n in (1, 2, 3)]
    before = results(*(comparison(case, 1.0) for case in cases))
    now = results(*(comparison(case, seconds) for case, seconds in zip(cases, (2.0, 4.0, 3.0), strict=True)))
    assert [change.now.case.batch for change in slower(now, before)] == [2, 3, 1]
