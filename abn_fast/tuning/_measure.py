from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast.kernels import _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels._tuning import Configuration, Request
from abn_fast.kernels._tuning_file import Row, candidates
from abn_fast.tuning._job import Job
from abn_fast.tuning.clock import Clock, Times

RANGE = 8
"""A measurement holds from an eighth of its sizes up to them."""


class Outcome(NamedTuple):
    """What a job found: the row for the user's file, and the candidates that failed with the reason."""

    row: Row
    dropped: list[tuple[Configuration, str]]

    @property
    def gain(self) -> float:
        """How many times faster than the shipped configuration; 1 where that one is the best."""
        return float(self.row["default_microseconds"] / self.row["microseconds"])


def measure(job: Job, device: torch.device, clock: Clock, runner: _runtime.Runner = _runtime.run) -> Outcome:
    """Try the candidates of a job's kernel; the shipped configuration stays unless one beats it by more than noise."""
    expected, launches = _with(None, job, device, runner)
    default = partial(_replay, launches, runner)
    (time,) = clock(default)
    tried = {_division(launches)}
    best: tuple[Times, Configuration, Callable[[], None]] | None = None
    dropped = []
    for configuration in _combinations(job.request.kernel):
        try:
            recorded = _with(configuration, job, device, lambda _: None)[1]
            if _division(recorded) in tried:
                continue
            tried.add(_division(recorded))
            results, launches = _with(configuration, job, device, runner)
            if wrong := difference(results, expected):
                dropped.append((configuration, wrong))
                continue
            run = partial(_replay, launches, runner)
            (found,) = clock(run)
        except Exception as error:  # whatever a compiler or a driver raises
            dropped.append((configuration, (str(error).strip().splitlines() or [type(error).__name__])[0]))
            continue
        if best is None or found.median < best[0].median:
            best = found, configuration, run
    if dropped:
        _with(None, job, device, runner)  # raises where a candidate has broken the GPU's context
    if best is None:
        return Outcome(row_of(job.request, None, time, time), dropped)
    # the fastest of many is partly luck: once more, turn by turn with the default
    time, found = clock(default, best[2])
    faster = found.beats(time)
    return Outcome(row_of(job.request, best[1] if faster else None, found if faster else time, time), dropped)


def row_of(request: Request, configuration: Configuration | None, time: Times, default: Times) -> Row:
    """A row for sizes near those of the request; no configuration where the shipped one is the best."""
    sizes = dict(request.sizes)
    return {
        "kernel": request.kernel,
        "architecture": request.architecture,
        "card": request.card,
        "dtype": request.dtype,
        "memory_format": request.memory_format,
        "at_most": sizes,
        "at_least": {name: -(-size // RANGE) for name, size in sizes.items()},
        "configuration": configuration,
        "microseconds": round(time.median, 2),
        "default_microseconds": round(default.median, 2),
    }


def difference(results: list[Tensor], expected: list[Tensor]) -> str | None:
    """What is wrong with results, of which only the order of sums may differ; None if nothing is."""
    for number, (ours, theirs) in enumerate(zip(results, expected, strict=True), 1):
        if not theirs.numel():
            continue
        largest = theirs.double().abs().max().item()
        error = (ours.double() - theirs.double()).abs().max().item()
        if not error <= max(1e-3, 2 * torch.finfo(ours.dtype).eps) * largest:  # nor is NaN
            return f"result {number} differs by {error:.1e} from the shipped configuration's, of at most {largest:.1e}"
    return None


def _with(
    configuration: Configuration | None, job: Job, device: torch.device, runner: _runtime.Runner
) -> tuple[list[Tensor], list[Launch]]:
    """The call of a job, launched so; None: as shipped."""
    none = Times(0, 0, 0)
    row = {**row_of(job.request, configuration, none, none), "at_least": dict(job.request.sizes)}
    with _tuning.use([] if configuration is None else [row]):
        return job.call(device, runner)


def _combinations(kernel: str) -> Iterator[Configuration]:
    values = candidates(kernel.partition(".")[0])[kernel]
    for combination in product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def _division(launches: list[Launch]) -> Any:
    """What tells launches of the same results apart."""
    return tuple(
        (
            each.kernel,
            each.programs,
            tuple(x for x in each.arguments if isinstance(x, int | float)),
            tuple((name, str(value)) for name, value in each.constants.items()),
        )
        for each in launches
    )


def _replay(launches: list[Launch], runner: _runtime.Runner) -> None:
    for each in launches:
        runner(each)
