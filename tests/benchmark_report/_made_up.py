from typing import Any

from abn_fast.benchmark_report import Case, Comparison, Measured, Results
from abn_fast.benchmark_report.results import Failure, Suite

MACHINE: dict[str, Any] = {"cpu": "Abacus 9000", "cores": 2, "threads": 2, "instruction sets": ["avx2", "amx_bf16"]}


def measured(name: str, middle: float, spread: float = 0.1) -> Measured:
    return Measured(name, middle * (1 - spread), middle, middle * (1 + spread))


def comparison(case: Case, ours: float, peer: float | None = None, **arguments: Any) -> Comparison:
    """Ours and a peer that take these, with quartiles 10 % around."""
    other = None if peer is None else measured("published", peer)
    return Comparison(case, arguments.pop("quantity", "seconds"), measured("ours", ours), other, **arguments)


def results(*comparisons: Comparison, **arguments: Any) -> Results:
    names = dict.fromkeys(each.suite for each in comparisons)
    suites = [Suite(name, 12.0, 3, 1, 0) for name in names]
    made = {"suites": suites, "failures": [Failure("test_a.py::test_x", "assert 1 < 0 <b>")], **arguments}
    return Results(
        "2030-01-02 03:04", "abn-fast bench", MACHINE, {"torch": "9.9"}, comparisons=list(comparisons), **made
    )


BATCHES = [
    comparison(Case("abn_resnet18", batch=n, size=224), 0.01 * n, 0.02 * n, suite="inference", test=f"test_x[{n}]")
    for n in (1, 4, 16)
]
STEP = [
    comparison(Case("abn_vgg16", batch=8, mode=mode), ours, peer, suite="training", test="test_parts")
    for mode, ours, peer in (("forward", 0.1, 0.2), ("backward", 0.3, 0.5), ("optimizer", 0.05, 0.02))
]
MEMORY = comparison(Case("head", classes=10), 1e6, 4e6, quantity="bytes", suite="scaling", target=2.0)
GROWTH = comparison(Case("head"), 0.5, 1.5, quantity="exponent", suite="scaling")
ALONE = comparison(Case("import", mode="start"), 0.4, suite="cold_start")
RESULTS = results(*BATCHES, *STEP, MEMORY, GROWTH, ALONE)
