"""docs/deployment.md: what it shows runs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import create_model, save_checkpoint
from abn_fast.cli.main import commands
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "deployment.md").read_text()
BLOCKS = re.findall(r"^```(\S.*)\n((?:.|\n)*?)^```", TEXT, re.MULTILINE)
DIGITS = [str(digit) for digit in range(10)]
LIMIT = 600


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo has run, with a picture."""
    torch.manual_seed(0)
    checkpoint = tmp_path / "runs" / "demo" / "abn" / "last.safetensors"
    checkpoint.parent.mkdir(parents=True)
    preprocessing = Preprocessing((48, 48), (0.5,) * 3, (0.25,) * 3)
    save_checkpoint(
        create_model("abn_cifar_resnet8", num_classes=10), checkpoint, preprocessing=preprocessing, classes=DIGITS
    )
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """In which `abn-fast` and `python` are of this checkout."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in (("abn-fast", f'"{sys.executable}" -m abn_fast'), ("python", f'"{sys.executable}"')):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "no_proxy": "*",
    }


def test_every_command_and_option_exists() -> None:
    shown = re.findall(r"^abn-fast ([\w-]+)(.*)$", TEXT, re.MULTILINE)
    assert {name for name, _ in shown} == {"export", "verify", "describe", "serve", "load-test"}
    for name, words in shown:
        command: click.Command = commands.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", words)) <= known, (name, words)


@pytest.mark.slow
def test_every_block_runs(folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
        pytest.importorskip(module, reason="the extra serve is not installed")
    server: subprocess.Popen[bytes] | None = None
    answers = ""
    try:
        for kind, text in BLOCKS:
            if kind == "sh background":
                server = _server(text, folder, environment)
            elif kind == "sh":
                if server is not None:
                    text = text.replace(":8000", f":{_port(folder)}")
                ran = subprocess.run(
                    ["sh", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
                )
                assert ran.returncode == 0, (text, ran.stdout, ran.stderr)
                answers += ran.stdout
            elif kind == "python":
                monkeypatch.chdir(folder)
                exec(text, {})
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
    for piece in ("passed", '{"classes":[{"index"', '"status":"ok"', "abn_fast_batch_size_bucket", " 0 errors"):
        assert piece in answers, piece
    assert "\ntrtexec --onnx=model.onnx" in answers
    assert "max_batch_size: 64" in answers


def _server(text: str, folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    words = [*text.replace("8000", "0").split(), "--device", "cpu"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "abn_fast", *words[1:]], cwd=folder, env=environment, stdout=log, stderr=log
        )
    deadline = time.monotonic() + LIMIT
    while " on http://" not in (folder / "server.log").read_text():
        assert server.poll() is None, (folder / "server.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return server


def _port(folder: Path) -> str:
    return (folder / "server.log").read_text().strip().rpartition(":")[2]


def test_the_c_plus_plus_program_says_what_the_session_says(folder: Path, environment: dict[str, str]) -> None:
    home = Path(os.environ.get("ONNXRUNTIME", "/nonexistent"))
    if not (home / "include" / "onnxruntime_cxx_api.h").is_file() or shutil.which("g++") is None:
        pytest.skip("no g++, or no ONNX Runtime for C++ at $ONNXRUNTIME")
    shutil.copy(ROOT / "docs" / "classify.cpp", folder)
    model = create_model("abn_cifar_resnet8", num_classes=10)
    export_onnx(
        model,
        folder / "model.onnx",
        size=SizeRange.fixed((48, 48)),
        batch=BatchRange(1, 2, 2),
        preprocessing=Preprocessing((48, 48), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
        classes=DIGITS,
    )
    [text] = blocks("sh c++")
    ran = subprocess.run(["sh", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    *classes, last = ran.stdout.splitlines()
    with Image.open(folder / "photo.ppm") as picture:
        expected = InferenceSession(folder / "model.onnx", device="cpu")(picture.copy())
    ours = dict(line.split() for line in classes)
    assert list(ours) == DIGITS
    probabilities = torch.from_numpy(expected.logits[0]).softmax(0).tolist()
    assert [float(value) for value in ours.values()] == pytest.approx(probabilities, abs=1e-4)
    height, width = expected.attention.shape[2:]
    row, column = np.unravel_index(expected.attention.argmax(), (height, width))
    assert last.startswith(f"map {height}x{width}, highest ")
    assert last.endswith(f"at row {row}, column {column}")
