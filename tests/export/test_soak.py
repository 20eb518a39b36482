"""An inference session under thousands of calls: right answers, no growth of memory or threads."""

import gc
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from abn_fast import create_model
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and threads are read from /proc"),
]
CALLS, SETTLED, CLIENTS = 10_000, 2_000, 4
SIZE = 16
TOLERANCE = 4 << 20
"""Bytes; over 8,000 calls a leak of half a kilobyte each, while an answer alone takes more, and an image 3 kB."""


class Growth(NamedTuple):
    """From the time when allocators have settled to the end."""

    memory: int
    threads: int


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InferenceSession]:
    """The same tiny network in both runtimes."""
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=4).eval()
    found = {"torch": InferenceSession(model, device="cpu")}
    if all(_is_installed(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        path = tmp_path_factory.mktemp("soak") / "model.onnx"
        export_onnx(model, path, size=SizeRange.fixed((SIZE, SIZE)), batch=BatchRange(1, 1, 2))
        found["onnxruntime"] = InferenceSession(path, "onnxruntime", device="cpu", threads=1)
    return found


def soak(call: Callable[[int], None]) -> Growth:
    """What the process grows by while `CLIENTS` threads make `CALLS` calls."""
    with ThreadPoolExecutor(CLIENTS) as pool:

        def make(first: int, last: int) -> None:
            def client(number: int) -> None:
                for which in range(first + number, last, CLIENTS):
                    call(which)

            list(pool.map(client, range(CLIENTS)))

        make(0, SETTLED)
        memory, threads = _memory(), _threads()
        make(SETTLED, CALLS)
        return Growth(_memory() - memory, _threads() - threads)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_ten_thousand_calls_are_right_and_leave_nothing_behind(
    runtime: str, sessions: dict[str, InferenceSession]
) -> None:
    if runtime not in sessions:
        pytest.skip("the extra export is not installed")
    session = sessions[runtime]
    images = [torch.randn(1 + number % 2, 3, SIZE, SIZE) for number in range(7)]
    expected = [sessions["torch"](each) for each in images]

    def call(number: int) -> None:
        given: Any = images[number % 7]
        answer = session(given if number % 3 else given.numpy())
        for value, true in zip(answer, expected[number % 7], strict=True):
            torch.testing.assert_close(torch.as_tensor(value), true, rtol=1e-4, atol=1e-5)

    growth = soak(call)
    print(f"{runtime}: {growth.memory / 1024:.0f} kB more after {CALLS - SETTLED} calls, {growth.threads} threads more")
    assert growth.memory < TOLERANCE
    assert growth.threads <= 0


def test_a_leak_would_be_seen(sessions: dict[str, InferenceSession]) -> None:
    images, kept = torch.randn(1, 3, SIZE, SIZE), list[Tensor]()

    def call(number: int) -> None:
        kept.extend(sessions["torch"](images))

    assert soak(call).memory > TOLERANCE


def _memory() -> int:
    gc.collect()
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _is_installed(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True
