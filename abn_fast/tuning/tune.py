import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.kernels import _runtime
from abn_fast.kernels._tuning_file import candidates, tuned_path
from abn_fast.kernels._tuning_file import ops as tuned_ops
from abn_fast.proofs.cases import CIFAR, IMAGENET, MULTI_TASK, Case, cases
from abn_fast.tuning import _rows
from abn_fast.tuning._job import jobs
from abn_fast.tuning._measure import measure
from abn_fast.tuning.clock import Clock, CudaClock

SHAPES = {"resnet50": (IMAGENET, (1, 32, 256)), "cifar": (CIFAR, (1, 32, 256)), "multi-task": (MULTI_TASK, (4,))}
"""Sizes of a head and the batches to measure at, by name."""
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Summary(NamedTuple):
    """Configurations that were measured, those of them that beat the shipped ones, and what is left to measure."""

    measured: int
    faster: int
    left: int
    path: Path


def cases_of(shapes: Iterable[str]) -> list[Case]:
    """Every op at the named sizes and batches."""
    chosen = dict(SHAPES[checked_choice("shapes", name, SHAPES)] for name in shapes)
    found = [case for case in cases() if case.size in chosen]
    return [replace(case, size=case.size._replace(batch=n)) for case in found for n in chosen[case.size]]


def tune(
    cases: Sequence[Case],
    dtypes: Sequence[torch.dtype] = tuple(DTYPES.values()),
    ops: Sequence[str] | None = None,
    path: Path | None = None,
    again: bool = False,
    seconds: float | None = None,
    log: Callable[[str], None] = print,
    device: torch.device | None = None,
    clock: Clock | None = None,
    runner: _runtime.Runner = _runtime.run,
) -> Summary:
    """Measure the candidates of every kernel that the cases launch, and write the best to the user's file of rows.

    Each is written as soon as it is known; what the file has for this card is not measured again, unless `again`.
    Stops after about so many seconds. The launchers read the file at `tuned_path()`, the default.

    Raises:
        AbnFastError: there is no GPU; an unknown op; a file that does not hold tuning rows.
    """
    available = [op for op in tuned_ops() if any(candidates(op).values())]
    ops = [checked_choice("op", op, available) for op in ops] if ops else available
    path = path or tuned_path()
    device = device or _gpu()
    clock = clock or CudaClock(device)
    known = _rows.measured(path, again)
    todo = [job for job in jobs(cases, dtypes, device, ops, log) if _rows.key(job.request) not in known]
    started, done, faster = time.monotonic(), 0, 0
    with tqdm(total=len(todo), unit="configuration", disable=None) as bar:
        for job in todo:
            if seconds is not None and time.monotonic() - started >= seconds:
                break
            bar.set_postfix_str(job.request.kernel)
            outcome = measure(job, device, clock, runner)
            _rows.put(path, outcome.row)
            for configuration, reason in outcome.dropped:
                log(f"{job}: {configuration} dropped: {reason}")
            if outcome.gain > 1:
                log(f"{job}: {outcome.row['configuration']} is {outcome.gain:.2f} times as fast as the shipped one")
            done, faster = done + 1, faster + (outcome.gain > 1)
            bar.update()
    return Summary(done, faster, len(todo) - done, path)


def _gpu() -> torch.device:
    if not torch.cuda.is_available():
        raise AbnFastError(
            "tuning measures on a GPU and torch sees none (torch.cuda.is_available() is False): run it where one is"
        )
    return torch.device("cuda", torch.cuda.current_device())
