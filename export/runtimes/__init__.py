"""What computes: one file a runtime, imported when it is asked for."""

from abn_fast.export.runtimes.runner import Runner, RunnerOptions
from abn_fast.export.runtimes.table import RUNTIMES, open_runner

__all__ = ["RUNTIMES", "Runner", "RunnerOptions", "open_runner"]
