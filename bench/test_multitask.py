"""40 tasks on one network, evaluation, on the CPU, against the published loop over tasks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import create_model
from abn_fast.benchmark_report import Case
from abn_fast.data import IMAGENET
from abn_fast.export import InferenceSession
from abn_fast.export.quantize import quantize_onnx
from abn_fast.modules import MultiTaskABN
from abn_fast.training import autocast
from abn_fast.training.config import Precision
from bench._compare import record
from bench._onnx import write_onnx
from bench._settled import photographs, settle_norms
from bench.peers.published_multi_task import task_by_task

TASKS, BATCH, SIZE = 40, 8, 224
CASE = Case("multi_task_abn_resnet50", batch=BATCH, size=SIZE, tasks=TASKS)
LEAST = 1.2
"""How many times as fast as the loop; 1.26 is what the saved operations give."""
FILES = {"fp32": (1.2, 1e-5), "int8": (2.5, 0.1)}
"""Files by precision: how many times as fast as the loop as published, and the difference from its logits and maps (the
norm's share of theirs)."""
pytestmark = pytest.mark.models(CASE.model)
LOOP = "published loop, NCHW, float32"
CHUNK = 4
"""Tasks together in the files; more of them take more memory and no less time."""
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def network(layout: torch.memory_format) -> MultiTaskABN:
    model = create_model("multi_task_abn_resnet50", num_classes=TASKS)
    assert isinstance(model, MultiTaskABN)
    return model.eval().to(memory_format=layout)


def images(layout: torch.memory_format) -> Tensor:
    return torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=layout)


def evaluation(run: Callable[[], Any], precision: Precision = "fp32") -> Callable[[], Any]:
    def evaluate() -> Any:
        with torch.inference_mode(), autocast(torch.device("cpu"), precision):
            return run()

    return evaluate


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tasks_together_against_the_loop_in_the_same_layout(layout: str, benchmark: Any) -> None:
    model, x = network(LAYOUTS[layout]), images(LAYOUTS[layout])
    ours, loop = evaluation(lambda: model(x)), evaluation(lambda: task_by_task(model, x))
    for own, published in zip(ours(), loop(), strict=True):
        torch.testing.assert_close(own, published, rtol=1e-5, atol=1e-5 * published.abs().max().item())
    case = replace(CASE, layout=layout)
    ratio = record(benchmark, case, f"tasks together, {layout}", f"published loop, {layout}", ours, loop, rounds=3)
    assert ratio >= LEAST


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiTaskABN, Path]:
    """A network whose norms have seen photographs, and the folder of its ONNX files."""
    folder = tmp_path_factory.mktemp("multitask")
    model = network(torch.contiguous_format)
    model.task_chunk = CHUNK
    settle_norms(model)
    write_onnx(model, folder / "fp32.onnx", IMAGENET)
    quantize_onnx(folder / "fp32.onnx", folder / "int8.onnx", photographs()[:16].split(8))
    return model, folder


@pytest.mark.parametrize("precision", FILES)
def test_our_files_against_the_loop_as_published(precision: str, files: Any, benchmark: Any) -> None:
    model, folder = files
    x = photographs()[16 : 16 + BATCH]
    session = InferenceSession(folder / f"{precision}.onnx", runtime="onnxruntime")
    loop = evaluation(lambda: task_by_task(model, x))
    ours, published = session(x), loop()
    least, tolerance = FILES[precision]
    for name in ("logits", "attention"):
        expected = getattr(published, name)
        assert (getattr(ours, name) - expected).norm() <= tolerance * expected.norm()
    case = replace(CASE, dtype=precision)
    path = f"ONNX Runtime, {precision}"
    assert record(benchmark, case, path, LOOP, lambda: session(x), loop, rounds=3, idle=0.25) >= least


def test_this_cpu_in_bfloat16(files: Any, benchmark: Any) -> None:
    model, _ = files
    x = photographs()[16 : 16 + BATCH]
    y = x.contiguous(memory_format=torch.channels_last)
    fast = network(torch.channels_last)
    fast.load_state_dict(model.state_dict())
    ours, loop = evaluation(lambda: fast(y), "bf16"), evaluation(lambda: task_by_task(model, x))
    expected = loop().attention
    assert (ours().attention - expected).norm() <= 0.05 * expected.norm()
    case = replace(CASE, dtype="bf16", layout="channels_last")
    record(benchmark, case, "tasks together, channels_last, bf16", LOOP, ours, loop, rounds=3)
