"""How long somebody waits who starts a process: imports, models, first steps, first sessions; on the CPU.

Where something is compiled, a first process finds the cache of Inductor empty and later ones find what it left; by
default it lies in the folder for temporary files, and TORCHINDUCTOR_CACHE_DIR moves it to one that lasts.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from abn_fast import create_model
from abn_fast.benchmark_report import Case, Comparison, Measured
from abn_fast.data import Preprocessing
from bench._compare import kept, note
from bench._fresh import fresh_seconds
from bench._onnx import write_onnx

ROUNDS = 3
MODEL, SIZE, CLASSES = "abn_cifar_resnet8", 32, 10
LEAST_SAVED = 2.0
"""How many times as fast a second process must start a compiled network as the first."""

MAKE_MODEL = f"""
import torch
from abn_fast import create_model
model = create_model("{MODEL}", num_classes={CLASSES}).to(memory_format=torch.channels_last)
images = torch.randn(8, 3, {SIZE}, {SIZE}).contiguous(memory_format=torch.channels_last)
labels = torch.arange(8)
"""
OUR_STEP = (
    MAKE_MODEL
    + """
from abn_fast.training import TrainingConfig
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep
config = TrainingConfig(compile="{compile}", precision="fp32")
step = TrainingStep(model.train(), make_optimizer(model, config), config)
"""
)
PUBLISHED_STEP = (
    MAKE_MODEL
    + """
from bench.peers.published_network import PublishedNetwork, published_step
model = PublishedNetwork(model).train()
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
if "{compile}" != "off":
    model.compile()
"""
)
RUN_OUR_STEP = "step(0, images, labels, 0.1).loss.item()"
RUN_PUBLISHED_STEP = "published_step(model, optimizer, images, labels)"


def rounds(name: str, code: str, before: str = "") -> Measured:
    return Measured.of(name, [fresh_seconds(code, before) for _ in range(ROUNDS)])


def test_imports(benchmark: Any) -> None:
    """Each after torch, which takes longest, alone."""
    case = Case("import", mode="start")
    note(benchmark, Comparison(case, "seconds", rounds("torch alone", "import torch")))
    note(benchmark, Comparison(case, "seconds", rounds("abn_fast alone, lazy", "import abn_fast")))
    ours = rounds("create_model of abn_fast, after torch", "from abn_fast import create_model", "import torch")
    if find_spec("timm") is not None:
        peer = rounds("create_model of timm, after torch", "from timm import create_model", "import torch")
        note(benchmark, Comparison(case, "seconds", ours, peer))
    kept(benchmark)


@pytest.mark.models("abn_resnet50")
def test_a_model_is_made(benchmark: Any) -> None:
    """Its random weights take the time; the peer is timm's plain network."""
    pytest.importorskip("timm", reason="timm is not installed")
    ours = rounds("create_model", 'create_model("abn_resnet50")', "from abn_fast import create_model")
    peer = rounds("timm.create_model, no attention branch", 'timm.create_model("resnet50")', "import timm")
    note(benchmark, Comparison(Case("abn_resnet50", mode="start"), "seconds", ours, peer))
    kept(benchmark)


@pytest.mark.models(MODEL)
def test_the_first_training_step(benchmark: Any) -> None:
    ours = rounds("our first step, eager", RUN_OUR_STEP, OUR_STEP.format(compile="off"))
    peer = rounds("published first step, eager", RUN_PUBLISHED_STEP, PUBLISHED_STEP.format(compile="off"))
    case = Case(MODEL, batch=8, size=SIZE, classes=CLASSES, layout="channels_last", mode="training, first step")
    note(benchmark, Comparison(case, "seconds", ours, peer))
    kept(benchmark)


@pytest.mark.models(MODEL)
def test_a_second_process_compiles_faster(tmp_path: Path, benchmark: Any) -> None:
    """The first of all processes compiles, once; the median of others reads what it kept."""
    case = Case(MODEL, batch=8, size=SIZE, classes=CLASSES, layout="channels_last", mode="training, first step")
    ours = _compiled("our first step", RUN_OUR_STEP, OUR_STEP.format(compile="default"), tmp_path / "ours")
    peer = _compiled(
        "published first step", RUN_PUBLISHED_STEP, PUBLISHED_STEP.format(compile="default"), tmp_path / "published"
    )
    for own, theirs in zip(ours, peer, strict=True):
        note(benchmark, Comparison(case, "seconds", own, theirs))
    note(benchmark, Comparison(case, "seconds", ours[1], ours[0]))
    kept(benchmark)
    assert ours[0].median >= LEAST_SAVED * ours[1].median


@pytest.mark.models(MODEL)
def test_a_second_process_opens_a_compiled_session_faster(tmp_path: Path, benchmark: Any) -> None:
    before = MAKE_MODEL + "from abn_fast.export import InferenceSession\n"
    code = 'InferenceSession(model.eval(), mode="compiled")(images)'
    first, later = _compiled("compiled session, first call", code, before, tmp_path)
    case = Case(MODEL, batch=8, size=SIZE, classes=CLASSES, mode="inference, first call")
    note(benchmark, Comparison(case, "seconds", later, first))
    kept(benchmark)
    assert first.median >= LEAST_SAVED * later.median


@pytest.mark.models(MODEL)
def test_the_first_session_of_a_file(tmp_path: Path, benchmark: Any) -> None:
    """Opened and called once; the bare runtime reads the same file."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, path = create_model(MODEL, num_classes=CLASSES).eval(), tmp_path / "model.onnx"
    write_onnx(model, path, Preprocessing((SIZE, SIZE), (0.5,) * 3, (0.5,) * 3))
    images = f"import numpy\nimages = numpy.zeros((1, 3, {SIZE}, {SIZE}), numpy.float32)\n"
    ours = rounds(
        "InferenceSession, onnxruntime",
        f'InferenceSession({str(path)!r}, device="cpu")(images)',
        f"{images}import onnxruntime\nfrom abn_fast.export import InferenceSession",
    )
    bare = rounds(
        "onnxruntime alone",
        f'session = onnxruntime.InferenceSession({str(path)!r}, providers=["CPUExecutionProvider"])\n'
        'session.run(None, {"images": images})',
        f"{images}import onnxruntime",
    )
    note(benchmark, Comparison(Case(MODEL, batch=1, size=SIZE, mode="inference, first call"), "seconds", ours, bare))
    kept(benchmark)


def _compiled(name: str, code: str, before: str, cache: Path) -> tuple[Measured, Measured]:
    """In the first process with this cache, and in later ones."""
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    first, *later = (fresh_seconds(code, before, variables) for _ in range(1 + ROUNDS))
    return Measured.of(f"{name}, compiled, first process", [first]), Measured.of(
        f"{name}, compiled, later process", later
    )
