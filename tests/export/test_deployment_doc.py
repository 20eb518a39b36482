"""The C++ program of docs/deployment.md; tests/test_documents.py runs the rest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import create_model
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx
from tests._documents import ROOT, blocks_of, environment, furnish, run_bash

DIGITS = [str(digit) for digit in range(10)]


def test_the_c_plus_plus_program_says_what_the_session_says(tmp_path: Path) -> None:
    home = Path(os.environ.get("ONNXRUNTIME", "/nonexistent"))
    if not (home / "include" / "onnxruntime_cxx_api.h").is_file() or shutil.which("g++") is None:
        pytest.skip("no g++, or no ONNX Runtime for C++ at $ONNXRUNTIME")
    furnish(tmp_path)
    shutil.copy(ROOT / "docs" / "classify.cpp", tmp_path)
    export_onnx(
        create_model("abn_cifar_resnet8", num_classes=10),
        tmp_path / "model.onnx",
        size=SizeRange.fixed((48, 48)),
        batch=BatchRange(1, 2, 2),
        preprocessing=Preprocessing((48, 48), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
        classes=DIGITS,
    )
    blocks = blocks_of((ROOT / "docs" / "deployment.md").read_text())
    [block] = [block for block in blocks if block.title == "needs ONNX Runtime for C++"]
    *classes, last = run_bash(block.text, tmp_path, environment(tmp_path), "docs/deployment.md").splitlines()
    with Image.open(tmp_path / "photo.ppm") as picture:
        expected = InferenceSession(tmp_path / "model.onnx", device="cpu")(picture.copy())
    ours = dict(line.split() for line in classes)
    assert list(ours) == DIGITS
    probabilities = torch.from_numpy(expected.logits[0]).softmax(0).tolist()
    assert [float(value) for value in ours.values()] == pytest.approx(probabilities, abs=1e-4)
    height, width = expected.attention.shape[2:]
    row, column = np.unravel_index(expected.attention.argmax(), (height, width))
    assert last.startswith(f"map {height}x{width}, highest ")
    assert last.endswith(f"at row {row}, column {column}")
