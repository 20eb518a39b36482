"""Measures launch configurations on the user's card."""

from abn_fast.tuning.tune import DTYPES, SHAPES, Summary, cases_of, tune

__all__ = ["DTYPES", "SHAPES", "Summary", "cases_of", "tune"]
