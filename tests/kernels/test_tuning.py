"""Launch configurations: rows, the user's file, and the tuner on a card that the tests make up."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import _runtime, _tuning, _tuning_file
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.attention_gate import _triton
from abn_fast.proofs.cases import OPS, Case, Size
from abn_fast.tuning import tune
from abn_fast.tuning._measure import difference
from abn_fast.tuning.clock import Times
from tests.kernels._interpreter import run_in_interpreter

FORWARD = "attention_gate.forward"
SHIPPED = {"tile_bytes": 16384, "block_pixels": 1024, "num_warps": 8}
TUNED = {"tile_bytes": 4096, "block_pixels": 64, "num_warps": 4}
CARD = "Card of the tests"
CPU = torch.device("cpu")
CASE = Case("attention_gate", Size(2, 64, 8, 5, 8, 8), OPS["attention_gate"])
X = torch.empty(2, 64, 8, 8)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's file."""
    path = tmp_path / "tuning.json"
    monkeypatch.setenv("ABN_FAST_TUNING", str(path))
    _tuning.reload()
    yield path
    _tuning.reload()


def write(path: Path, *rows: Any, **others: Any) -> None:
    path.write_text(json.dumps({"format": 1, "rows": rows, **others}))


def chosen(x: torch.Tensor = X, maps: int = 1) -> dict[str, int]:
    return _tuning.configuration(FORWARD, x, maps=maps)


@pytest.mark.parametrize("op", _tuning_file.ops())
def test_shipped_rows_are_rows_and_end_with_a_safe_default(op: str) -> None:
    rows = _tuning_file.shipped_rows(op)
    assert [wrong for row in rows if (wrong := _tuning_file.wrong_row(row))] == []
    named = {row["kernel"]: row for row in rows}  # the last of each
    for kernel, row in named.items():
        assert kernel.partition(".")[0] == op
        assert row.keys() == {"kernel", "configuration"}
    for kernel, candidates in _tuning_file.candidates(op).items():
        assert candidates.keys() == named[kernel]["configuration"].keys()


def test_the_first_row_that_fits_is_chosen() -> None:
    last = torch.empty_like(X, memory_format=torch.channels_last)
    assert chosen() == SHIPPED
    assert chosen(last)["block_pixels"] == 16
    assert chosen(maps=2)["block_pixels"] == 32
    rows = [
        {"kernel": FORWARD, "architecture": "sm_90", "at_most": {"pixels": 63}, "configuration": {"num_warps": 1}},
        {"kernel": FORWARD, "architecture": "sm_90", "at_least": {"batch": 3}, "configuration": {"num_warps": 2}},
        {"kernel": FORWARD, "architecture": "sm_80", "configuration": {"num_warps": 3}},
        {"kernel": FORWARD, "dtype": "torch.float16", "configuration": {"num_warps": 4}},
        {"kernel": FORWARD, "memory_format": "torch.channels_last", "configuration": {"num_warps": 5}},
        {"kernel": "attention_gate.backward", "configuration": {"num_warps": 6}},
        {"kernel": FORWARD, "at_most": {"pixels": 64}, "at_least": {"batch": 2}, "configuration": {"num_warps": 7}},
    ]
    with _tuning.pretend("sm_90"), _tuning.use(rows):
        assert chosen() == {"num_warps": 7}
        assert chosen(last) == {"num_warps": 5}
        assert chosen(X.half()) == {"num_warps": 4}
        assert chosen(torch.cat([X, X])) == {"num_warps": 2}
        assert chosen(X[..., :7]) == {"num_warps": 1}
        assert chosen(X[:1]) == SHIPPED
        with _tuning.pretend("sm_80"):
            assert chosen() == {"num_warps": 3}
    assert chosen() == SHIPPED


def test_a_choice_is_made_once_and_is_the_caller_s_own() -> None:
    chosen().clear()
    before = _tuning._choose.cache_info()
    assert chosen() == SHIPPED
    after = _tuning._choose.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def test_the_user_s_rows_come_first_on_the_card_that_they_name(file: Path) -> None:
    write(file, {"kernel": FORWARD, "card": CARD, "at_most": {"batch": 2}, "configuration": TUNED})
    with _tuning.pretend("sm_90", CARD):
        assert chosen() == TUNED
        assert chosen(torch.cat([X, X])) == SHIPPED
    with _tuning.pretend("sm_90", "Another"):
        assert chosen() == SHIPPED


def test_the_user_s_file_is_read_at_the_first_launch_on_a_gpu_only(file: Path) -> None:
    file.write_text("broken")
    assert chosen() == SHIPPED
    with _tuning.pretend("sm_90"):
        assert chosen() == SHIPPED
    with _tuning.pretend("sm_90", CARD), _runtime.record() as launches, pytest.raises(AbnFastError, match="not JSON"):
        kernels.attention_gate(X, X[:, :1], torch.ones(1), torch.ones(1))
    assert launches == []


def test_without_a_file_the_shipped_rows_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABN_FAST_TUNING")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with _tuning.pretend("sm_90", CARD):
        assert chosen() == SHIPPED
    assert _tuning_file.tuned_path() == tmp_path / "abn_fast" / "tuning.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _tuning_file.tuned_path() == Path.home() / ".cache" / "abn_fast" / "tuning.json"


def row(**others: Any) -> dict[str, Any]:
    return {"kernel": FORWARD, "configuration": TUNED, **others}


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "no such file; write it with abn-fast kernels tune"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "empty": (lambda path: path.write_text(""), "not JSON"),
    "truncated": (lambda path: path.write_text('{"format": 1, "rows": [{"ker'), "not JSON"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "a list": (lambda path: path.write_text("[1]"), r"format \[1\]; this version reads format 1"),
    "other format": (lambda path: write(path, format=2), "format 2; this version reads format 1"),
    "no rows": (lambda path: path.write_text('{"format": 1}'), "expected format and a list of rows"),
    "rows of another type": (lambda path: write(path, rows={}), "a list of rows"),
    "another key": (lambda path: write(path, notes=[]), "notes"),
    "a row of another type": (lambda path: write(path, row(), 3), "row 2: 3; expected an object"),
    "no configuration": (lambda path: write(path, {"kernel": FORWARD}), "expected an object with kernel and config"),
    "unknown key": (lambda path: write(path, row(gpu="H100")), 'unknown key "gpu"'),
    "unknown op": (lambda path: write(path, row(kernel="../attention_gate.forward")), "unknown kernel"),
    "unknown kernel": (lambda path: write(path, row(kernel="attention_gate.sideways")), "unknown kernel"),
    "kernel of another type": (lambda path: write(path, row(kernel=1)), "kernel is 1; expected text"),
    "dtype of another type": (lambda path: write(path, row(dtype=16)), "dtype is 16; expected text"),
    "bounds of another type": (lambda path: write(path, row(at_most=3)), "at_most is 3; expected a whole number"),
    "a bound of another type": (lambda path: write(path, row(at_least={"pixels": "3"})), "at_least is"),
    "time of another type": (lambda path: write(path, row(microseconds="1")), 'microseconds is "1"; expected a number'),
    "configuration of another type": (lambda path: write(path, row(configuration=[])), r"configuration is \[\]"),
    "missing value": (lambda path: write(path, row(configuration={"num_warps": 4})), "expected tile_bytes, block_pix"),
    "unknown value": (lambda path: write(path, row(configuration={**TUNED, "stages": 1})), "configuration is"),
    "value of another type": (
        lambda path: write(path, row(configuration={**TUNED, "num_warps": True})),
        "num_warps is true; expected one of 4, 8",
    ),
    "value never tried": (
        lambda path: write(path, row(configuration={**TUNED, "block_pixels": 100})),
        "block_pixels is 100; expected one of 1, 16, 32, 64, 256, 1024",
    ),
    "unknown size": (
        lambda path: write(path, row(at_most={"depth": 3})),
        "bounds depth; expected bounds of batch, channels, maps, pixels",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_told_in_one_line_that_names_it(wrong: str, file: Path) -> None:
    prepare, message = WRONG[wrong]
    prepare(file)
    for _ in range(2):
        with _tuning.pretend("sm_90", CARD), pytest.raises(AbnFastError, match=message) as error:
            chosen()
        assert "\n" not in str(error.value)
        assert str(file) in str(error.value)
        assert "abn-fast kernels tune" in str(error.value)


def test_nothing_of_a_gpu_or_the_file_is_touched_at_import(file: Path) -> None:
    file.write_text("broken")
    code = """
import torch
def touched(*_): raise AssertionError
torch.cuda._lazy_init = torch.cuda.get_device_properties = touched
from abn_fast import kernels
import abn_fast.tuning
from abn_fast.kernels.attention_gate import _launch
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class FakeCard:
    """Launches that write zeros, and a clock that knows what each costs."""

    def __init__(self, cost: Callable[[Launch], float]) -> None:
        self.cost = cost
        self.launches: list[Launch] = []
        self.measured: list[int] = []
        """Runs of each measurement."""

    def runner(self, launch: Launch) -> None:
        self.launches.append(launch)
        with torch.no_grad():
            for x in launch.arguments:
                if isinstance(x, torch.Tensor):
                    x.zero_()

    def clock(self, *runs: Callable[[], Any]) -> list[Times]:
        self.measured.append(len(runs))
        found = []
        for run in runs:
            self.launches.clear()
            run()
            time = sum(map(self.cost, self.launches))
            found.append(Times(time, time, time))
        return found

    def tune(self, path: Path, case: Case = CASE, **options: Any) -> Any:
        with _tuning.pretend("sm_90", options.pop("card", CARD)):
            return tune(
                [case],
                [torch.float32],
                ["attention_gate"],
                path,
                device=CPU,
                clock=self.clock,
                runner=self.runner,
                **options,
            )


def quiet(line: str) -> None:
    pass


def by_warps(launch: Launch) -> float:
    """4 warps are the fastest, and of a tile the smallest."""
    return float(abs(launch.constants["num_warps"] - 4) + 1 + launch.constants.get("BLOCK_A", 0) / 1000)


def launched(x: torch.Tensor) -> list[Launch]:
    with _tuning.pretend("sm_90", CARD), _runtime.record() as launches:
        kernels.attention_gate(x, x[:, :1], torch.ones(1), torch.ones(1))
    return launches


def test_the_fastest_is_written_and_launched(file: Path) -> None:
    write(file)
    (launch,) = launched(torch.randn(2, 64, 8, 8))
    assert launch.constants["num_warps"] == 8
    summary = FakeCard(by_warps).tune(file)
    rows = json.loads(file.read_text())["rows"]
    # forward, backward and the map's gradient, in two layouts
    assert (summary.measured, summary.left, len(rows)) == (6, 0, 6)
    assert summary.faster == sum(row["configuration"] is not None for row in rows) == 2
    assert [_tuning_file.wrong_row(row) for row in rows] == [None] * 6
    row = next(row for row in rows if row["kernel"] == FORWARD and row["memory_format"] == "torch.contiguous_format")
    assert (row["architecture"], row["card"], row["dtype"]) == ("sm_90", CARD, "torch.float32")
    assert row["at_most"] == {"batch": 2, "channels": 64, "pixels": 64, "maps": 1}
    assert row["at_least"] == {"batch": 1, "channels": 8, "pixels": 8, "maps": 1}
    assert row["microseconds"] < row["default_microseconds"]
    (launch,) = launched(torch.randn(2, 64, 8, 8))
    assert launch.constants["num_warps"] == 4
    (launch,) = launched(torch.randn(3, 64, 8, 8))
    assert launch.constants["num_warps"] == 8


@pytest.mark.parametrize("gain", [0, 0.01], ids=["tie", "noise"])
def test_the_shipped_configuration_stays_where_none_is_clearly_faster(gain: float, file: Path) -> None:
    def cost(launch: Launch) -> float:
        return 1 - gain * int(launch.constants["num_warps"] == 4)

    summary = FakeCard(cost).tune(file)
    rows = json.loads(file.read_text())["rows"]
    assert (summary.measured, summary.faster) == (6, 0)
    assert [row["configuration"] for row in rows] == [None] * 6
    (launch,) = launched(torch.randn(2, 64, 8, 8))
    assert launch.constants["num_warps"] == 8


def test_the_luck_of_one_measurement_does_not_decide(file: Path) -> None:
    card = FakeCard(lambda launch: 1)
    lucky = iter(range(1, 10_000))

    def clock(*runs: Callable[[], Any]) -> list[Times]:
        if len(runs) > 1:  # turn by turn
            return card.clock(*runs)
        time = 1 / next(lucky)
        return [Times(time, time, time)]

    with _tuning.pretend("sm_90", CARD):
        summary = tune(
            [CASE], [torch.float32], ["attention_gate"], file, device=CPU, clock=clock, runner=card.runner, log=quiet
        )
    assert (summary.measured, summary.faster) == (6, 0)
    assert card.measured == [2] * 4  # at these sizes the rest has no other division to try


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "fails": (lambda: 1 / 0, "division by zero"),
    "is wrong": (lambda: 1.0, "differs by 1.0e+00"),
    "is not a number": (lambda: float("nan"), "differs by nan"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_candidate_is_dropped_and_reported(bad: str, file: Path) -> None:
    value, message = BAD[bad]

    class Bad(FakeCard):
        def runner(self, launch: Launch) -> None:
            super().runner(launch)
            if launch.kernel is _triton.forward_kernel and launch.constants["num_warps"] == 4:
                launch.arguments[4].fill_(value())

    lines: list[str] = []
    Bad(by_warps).tune(file, log=lines.append)
    rows = [row for row in json.loads(file.read_text())["rows"] if row["kernel"] == FORWARD]
    assert len(rows) == 2
    for memory_format in (torch.contiguous_format, torch.channels_last):
        (launch,) = launched(torch.randn(2, 64, 8, 8).contiguous(memory_format=memory_format))
        assert launch.constants["num_warps"] != 4
    dropped = [line for line in lines if "dropped" in line]
    assert dropped
    for line in dropped:
        assert line.startswith("attention_gate.forward (batch 2, channels 64, pixels 64, maps 1, float32, ")
        assert "'num_warps': 4" in line
        assert message in line


@pytest.mark.slow
def test_every_candidate_gives_the_numbers_of_the_shipped_configuration() -> None:
    run_in_interpreter("interpreted_tuning.py")


def test_results_may_differ_by_roundings_only() -> None:
    expected = [torch.ones(3), torch.zeros(2), torch.empty(0)]
    assert difference([torch.ones(3) + 1e-6, torch.zeros(2), torch.empty(0)], expected) is None
    assert "result 1 differs by 1.0e-02" in str(difference([torch.ones(3) * 1.01, *expected[1:]], expected))
    assert "result 2" in str(difference([expected[0], torch.ones(2), expected[2]], expected))
    halves = [torch.ones(3, dtype=torch.bfloat16)]
    assert difference([halves[0] + torch.finfo(torch.bfloat16).eps], halves) is None


def test_a_broken_gpu_is_no_measurement(file: Path) -> None:
    class Broken(FakeCard):
        broken = False

        def runner(self, launch: Launch) -> None:
            self.broken = self.broken or launch.constants["num_warps"] != 8
            if self.broken:
                raise RuntimeError("an illegal memory access was encountered")
            super().runner(launch)

    with pytest.raises(RuntimeError, match="illegal memory access"):
        Broken(by_warps).tune(file, log=quiet)
    assert not file.exists()


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(file: Path) -> None:
    class Interrupted(FakeCard):
        def clock(self, *runs: Callable[[], Any]) -> list[Times]:
            if file.exists() and len(json.loads(file.read_text())["rows"]) == 2:
                raise KeyboardInterrupt
            return super().clock(*runs)

    whole = FakeCard(by_warps)
    whole.tune(file, log=quiet)
    complete = file.read_text()
    file.unlink()
    _tuning.reload()
    interrupted, resumed = Interrupted(by_warps), FakeCard(by_warps)
    with pytest.raises(KeyboardInterrupt):
        interrupted.tune(file, log=quiet)
    assert len(_tuning_file.read_tuned_rows(file)) == 2
    assert resumed.tune(file, log=quiet)[:3] == (4, whole.tune(file, log=quiet, again=True).faster - 2, 0)
    assert file.read_text() == complete
    assert len(interrupted.measured) + len(resumed.measured) == len(whole.measured) / 2


def test_what_the_file_has_for_this_card_is_measured_only_again(file: Path) -> None:
    card = FakeCard(by_warps)
    assert card.tune(file, log=quiet).measured == 6
    card.measured.clear()
    assert card.tune(file, log=quiet).measured == 0
    assert card.measured == []
    assert card.tune(file, log=quiet, card="Another").measured == 6
    assert len(_tuning_file.read_tuned_rows(file)) == 12
    assert card.tune(file, log=quiet, again=True).measured == 6
    assert len(_tuning_file.read_tuned_rows(file)) == 12


def test_what_is_measured_does_not_depend_on_the_user_s_rows(file: Path) -> None:
    card = FakeCard(by_warps)
    card.tune(file, log=quiet)
    first = file.read_text()
    card.tune(file, log=quiet, again=True)
    assert file.read_text() == first


def test_time_is_limited(file: Path) -> None:
    assert FakeCard(by_warps).tune(file, seconds=0)[:3] == (0, 0, 6)
    assert not file.exists()


def test_a_wrong_file_is_replaced_only_when_asked(file: Path) -> None:
    file.write_text("broken")
    with pytest.raises(AbnFastError, match="not JSON"):
        FakeCard(by_warps).tune(file)
    assert file.read_text() == "broken"
    assert FakeCard(by_warps).tune(file, again=True, log=quiet).measured == 6
    assert len(_tuning_file.read_tuned_rows(file)) == 6


def test_smaller_sizes_come_first(file: Path) -> None:
    card = FakeCard(by_warps)
    for batch in (4, 2, 32):
        size = CASE.size._replace(batch=batch)
        card.tune(file, Case("attention_gate", size, CASE.definition), log=quiet)
    rows = [row for row in json.loads(file.read_text())["rows"] if row["kernel"] == FORWARD]
    assert [row["at_most"]["batch"] for row in rows] == [2, 2, 4, 4, 32, 32]


def test_an_unknown_op_is_refused(file: Path) -> None:
    with pytest.raises(AbnFastError, match=r"op='attention'; expected one of .*'attention_gate'"):
        tune([CASE], ops=["attention"], path=file, device=CPU)


def test_without_a_gpu_one_line_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AbnFastError, match="measures on a GPU and torch sees none") as error:
        tune([CASE], path=file)
    assert "\n" not in str(error.value)
