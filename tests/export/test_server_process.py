"""`abn-fast serve` as a process of its own, on loopback."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from abn_fast.export import InferenceSession
from tests.export.conftest import Exported

for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(module, reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from abn_fast.export.server.load_test import load_test  # noqa: E402  # after the skips
from abn_fast.export.server.sample_images import sample_images  # noqa: E402  # likewise

START, STOP = 180.0, 120.0
MEAN_ERROR = 1e-4


class Server(NamedTuple):
    """A running `abn-fast serve`."""

    process: "subprocess.Popen[str]"
    first_line: str
    url: str

    def stop(self) -> tuple[int, str]:
        """Exit code and what it wrote to stderr, after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=STOP)
        return self.process.returncode, errors


@contextmanager
def serving(file: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "abn_fast", "serve", str(file), "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    try:
        line = _line(process)
        yield Server(process, line, line.rpartition(" on ")[2])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _line(process: "subprocess.Popen[str]") -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    line = lines.get(timeout=START).strip()
    assert line, process.communicate()[1]
    return line


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STOP
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_flight(url: str, count: int) -> bool:
    return f"abn_fast_requests_in_flight {count}.0" in httpx.get(f"{url}/metrics", trust_env=False).text


def checker(file: Path, images: list[bytes], folder: Path) -> Callable[[int, Any], str | None]:
    """Compares answers with what a session in this process says of the same images."""
    session = InferenceSession(file, device="cpu")
    paths = [folder / f"{index}.jpg" for index in range(len(images))]
    for path, data in zip(paths, images, strict=True):
        path.write_bytes(data)
    expected = [session(path) for path in paths]
    probabilities = [torch.from_numpy(output.logits[0]).softmax(0).numpy() for output in expected]
    assert len({array.tobytes() for array in probabilities}) == len(images)  # an answer to another image would show

    def check(index: int, answer: Any) -> str | None:
        ours = {entry["index"]: entry["probability"] for entry in answer["classes"]}
        wanted = probabilities[index]
        error = max(abs(ours[index] - float(value)) for index, value in enumerate(wanted))
        map_error = np.abs(np.array(answer["map"]["values"]) - expected[index].attention[0, 0]).max()
        return (
            None if max(error, map_error) < MEAN_ERROR else f"image {index} is off by {error:.2g} and {map_error:.2g}"
        )

    return check


def test_a_server_answers_finishes_what_is_under_way_and_stops(exported: Exported, tmp_path: Path) -> None:
    images = sample_images(4)
    check = checker(exported.file, images, tmp_path)
    with serving(exported.file, "--max-wait", "1500", "--max-batch", "4") as server:
        assert re.fullmatch(
            r"abn-fast: .*model\.onnx by onnxruntime \(CPUExecutionProvider\), fp32, on http://127\.0\.0\.1:\d+",
            server.first_line,
        )
        report = load_test(server.url, images, clients=4, seconds=2, check=check)
        assert not report.errors, report.text()
        assert len(report.latencies) >= 4
        with pytest.raises(httpx.TimeoutException):  # a client that does not wait
            httpx.post(f"{server.url}/predict", content=images[0], timeout=0.2, trust_env=False)
        with ThreadPoolExecutor(2) as pool:
            until(lambda: in_flight(server.url, 0))
            answers = [
                pool.submit(httpx.post, f"{server.url}/predict", content=images[i], timeout=STOP, trust_env=False)
                for i in range(2)
            ]
            until(lambda: in_flight(server.url, 2))
            code, errors = server.stop()
            for index, answer in enumerate(answers):
                assert answer.result().status_code == 200
                assert check(index, answer.result().json()) is None
        assert (code, errors) == (0, "")
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url, trust_env=False)


@pytest.mark.slow
def test_many_clients_get_correct_answers_for_a_while(exported: Exported, tmp_path: Path) -> None:
    images = sample_images(12)
    check = checker(exported.file, images, tmp_path)
    with serving(exported.file, "--max-wait", "5") as server:
        report = load_test(server.url, images, clients=64, seconds=20, check=check)
        assert not report.errors, report.text()
        assert len(report.latencies) >= 64
        metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert f'abn_fast_requests_total{{path="/predict",status="200"}} {len(report.latencies)}.0' in metrics
        assert "abn_fast_errors_total" not in re.sub(r"#.*", "", metrics)
        assert server.stop() == (0, "")
