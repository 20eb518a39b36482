from pathlib import Path
from typing import Any

import pytest
import torch

import abn_fast.tuning
from abn_fast.kernels import _dispatch
from abn_fast.tuning import Summary
from tests.cli.conftest import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the tuner is called with."""
    made: list[tuple[Any, ...]] = []

    def tune(*arguments: Any, log: Any) -> Summary:
        made.append(arguments)
        return Summary(3, 2, 1, Path(arguments[3]))

    monkeypatch.setattr(abn_fast.tuning, "tune", tune)
    return made


def test_options_are_handed_on(calls: list[tuple[Any, ...]], run: Run) -> None:
    outcome = run(
        *("kernels", "tune", "--op", "attention_gate", "--shapes", "cifar", "--dtype", "float16"),
        *("--out", "found.json", "--seconds", 60, "--again"),
    )
    assert outcome.code == 0
    ((cases, *others),) = calls
    assert {(case.size.classes, case.size.batch) for case in cases} == {(100, 1), (100, 32), (100, 256)}
    assert others == [[torch.float16], ("attention_gate",), Path("found.json"), True, 60.0]
    assert outcome.out.splitlines() == [
        "3 configurations measured, 2 faster than shipped, 1 left: the same command goes on; found.json",
        "launches read it where ABN_FAST_TUNING=found.json is set",
    ]


def test_by_default_launches_find_the_file(
    calls: list[tuple[Any, ...]], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ABN_FAST_TUNING", str(tmp_path / "t.json"))
    outcome = run("kernels", "tune", "--shapes", "all")
    ((cases, dtypes, ops, path, again, seconds),) = calls
    assert {case.size.maps for case in cases} == {1, 40}
    assert dtypes == [torch.float16, torch.bfloat16, torch.float32]
    assert (ops, path, again, seconds) == ((), tmp_path / "t.json", False, None)
    assert len(outcome.out.splitlines()) == 1


def test_an_interrupt_says_where_the_rows_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(abn_fast.tuning, "tune", interrupted)
    outcome = run("kernels", "tune", "--out", "found.json")
    assert outcome.code == 130
    assert outcome.out == "what is measured is in found.json; the same command goes on\n"


def test_without_triton_one_line_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "_HAS_TRITON", False)
    outcome = run("kernels", "tune")
    assert outcome.code == 2
    assert outcome.err == ("abn-fast: tuning runs the Triton kernels and Triton is not installed: pip install triton\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "vit"], "shapes='vit'; expected one of 'resnet50', 'cifar', 'multi-task'"),
        (["--dtype", "int8"], "dtype='int8'; expected one of 'float16', 'bfloat16', 'float32'"),
        (["--op", "convolution"], "op='convolution'; expected one of 'add_relu_pool', 'attention_gate'"),
        ([], "tuning measures on a GPU and torch sees none"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], message: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = run("kernels", "tune", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"abn-fast: {message}")
    assert outcome.err.count("\n") == 1
