from collections.abc import Hashable
from dataclasses import dataclass

from abn_fast.benchmark_report.case import Comparison, Measured
from abn_fast.benchmark_report.results import Results


@dataclass(frozen=True)
class Change:
    """A case that takes more than in an earlier run, beyond the noise of both."""

    now: Comparison
    before: Comparison
    factor: float
    """How many times what it took, the machine's own change taken out."""


def slower(now: Results, before: Results) -> list[Change]:
    """What got slower, or takes more memory or launches, the worst first.

    The machine's own change is what the peer measured beside it has changed by (none where there is no peer). A change
    is beyond the noise where, with that taken out, the lower quartile of now is above the upper quartile of before.
    """
    earlier = {_key(each): each for each in before.comparisons}
    changes = []
    for each in now.comparisons:
        old = earlier.get(_key(each))
        if old is not None and (factor := _factor(each, old)) is not None:
            changes.append(Change(each, old, factor))
    return sorted(changes, key=lambda change: -change.factor)


def in_common(now: Results, before: Results) -> int:
    """How many comparisons both runs have."""
    earlier = {_key(each) for each in before.comparisons}
    return sum(_key(each) in earlier for each in now.comparisons)


def _factor(now: Comparison, before: Comparison) -> float | None:
    machine = 1.0
    if _has_time(now, now.peer) and _has_time(before, before.peer):
        assert now.peer is not None
        assert before.peer is not None
        machine = now.peer.median / before.peer.median
    if now.ours.lower / machine <= before.ours.upper or not before.ours.median:
        return None
    return now.ours.median / machine / before.ours.median


def _has_time(each: Comparison, measured: Measured | None) -> bool:
    return each.quantity == "seconds" and measured is not None and measured.median > 0


def _key(each: Comparison) -> Hashable:
    return each.suite, each.case, each.quantity, each.ours.name, each.peer and each.peer.name
