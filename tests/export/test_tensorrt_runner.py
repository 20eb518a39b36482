"""Engines run: what passes between torch and the runtime, with a stand-in for the card and the runtime."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from abn_fast import AbnFastError
from abn_fast.export import BatchRange, SizeRange
from abn_fast.export.describe import describe
from abn_fast.export.runtimes import RunnerOptions
from abn_fast.export.tensorrt.flavour import CLASSIC, RTX, Flavour
from abn_fast.export.tensorrt.runner import KEPT, EngineRunner
from abn_fast.export.tensorrt.sidecar import Sidecar
from tests.export import _engine
from tests.export._engine import Context, Engine, HostCuda, runtime_module
from tests.export._networks import outputs_of, relative_error, small

VERSION = "1.2.3"


@pytest.fixture(scope="module")
def model() -> Any:
    return small("abn-cifar_resnet8")[0]


@pytest.fixture
def sidecar(model: Any) -> Sidecar:
    metadata = describe(
        model,
        outputs=_engine.NAMES,
        precision="fp16",
        batch=BatchRange(1, 2, 4),
        size=SizeRange((12, 12), (20, 26), (40, 40)),
    )
    return Sidecar("tensorrt", VERSION, ("sm_86", "sm_89"), "", "", metadata)


@pytest.fixture
def engine(model: Any) -> Engine:
    return Engine(model)


@pytest.fixture
def open_engine(engine: Engine, sidecar: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def opened(flavour: Flavour = CLASSIC, options: RunnerOptions | None = None, **changed: Any) -> EngineRunner:
        module = changed.pop("module", None) or runtime_module(VERSION, engine)
        monkeypatch.setitem(sys.modules, flavour.module, module)
        path = tmp_path / f"model{flavour.suffix}"
        path.write_bytes(b"engine")
        cuda = changed.pop("cuda", None) or HostCuda()
        return EngineRunner(path, replace(sidecar, **changed), flavour, options or RunnerOptions(), cuda)

    return opened


@pytest.mark.parametrize("flavour", [CLASSIC, RTX])
def test_images_of_the_host_pass_through_and_come_back(
    open_engine: Any, engine: Engine, model: Any, flavour: Flavour
) -> None:
    cuda = HostCuda()
    runner = open_engine(flavour, cuda=cuda)
    for batch, size in ((2, (20, 26)), (1, (20, 26)), (2, (20, 26)), (2, (14, 30)), (2, (20, 26))):
        images = torch.randn(batch, 3, *size)
        expected = outputs_of(model, images)
        for name, value in zip(_engine.NAMES, runner.run(images), strict=True):
            assert relative_error(value, expected[name]) < 1e-6
    assert len(engine.contexts) == 3
    assert cuda.graphs == (0 if flavour is RTX else 3)
    assert runner.runtime == flavour.name
    assert runner.provider == f"Stand-in, sm_86, {flavour.title} {VERSION}"


def test_results_stay_when_the_next_images_come(open_engine: Any) -> None:
    runner = open_engine()
    first = runner.run(torch.zeros(1, 3, 20, 26))
    kept = [value.clone() for value in first]
    runner.run(torch.ones(1, 3, 20, 26))
    assert all(torch.equal(value, before) for value, before in zip(first, kept, strict=True))


def test_images_on_the_card_are_read_where_they_lie(open_engine: Any, engine: Engine, model: Any) -> None:
    cuda = HostCuda()
    runner = open_engine(cuda=cuda)
    images = torch.randn(2, 3, 20, 26)
    cuda.there.add(images.data_ptr())
    outputs = runner.run(images)
    (context,) = engine.contexts
    assert context.addresses == {
        "images": images.data_ptr(),
        "logits": outputs[0].data_ptr(),
        "attention": outputs[1].data_ptr(),
    }
    assert cuda.graphs == 0
    assert relative_error(outputs[0], outputs_of(model, images)["logits"]) < 1e-6
    other = runner.run(images)
    assert other[0].data_ptr() != outputs[0].data_ptr()


def test_threads_have_a_context_each(open_engine: Any, model: Any) -> None:
    runner = open_engine()
    batches = [torch.randn(1 + index % 3, 3, 20, 26) for index in range(48)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(runner.run, batches))
    for batch, outputs in zip(batches, together, strict=True):
        assert relative_error(outputs[0], outputs_of(model, batch)["logits"]) < 1e-6


def test_contexts_of_many_shapes_are_let_go(open_engine: Any, engine: Engine) -> None:
    runner = open_engine()
    for side in range(12, 12 + KEPT + 3):
        runner.run(torch.zeros(1, 3, side, side))
    assert len(runner._idle) == KEPT
    before = len(engine.contexts)
    runner.run(torch.zeros(1, 3, 12 + KEPT + 2, 12 + KEPT + 2))
    assert len(engine.contexts) == before
    runner.run(torch.zeros(1, 3, 12, 12))
    assert len(engine.contexts) == before + 1


def test_a_context_that_failed_is_not_used_again(
    open_engine: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = open_engine()
    with monkeypatch.context() as patch:
        patch.setattr(Context, "execute_async_v3", lambda self, stream_handle: False)
        with pytest.raises(AbnFastError, match=r"does not run on images \[1, 3, 20, 26\]"):
            runner.run(torch.zeros(1, 3, 20, 26))
    runner.run(torch.zeros(1, 3, 20, 26))
    assert len(engine.contexts) == 2


def test_a_part_of_the_outputs_in_another_order(open_engine: Any, model: Any) -> None:
    runner = open_engine(options=RunnerOptions(outputs=("attention",)))
    images = torch.randn(1, 3, 20, 26)
    (attention,) = runner.run(images)
    assert relative_error(attention, outputs_of(model, images)["attention"]) < 1e-6


@pytest.mark.parametrize("shape", [(5, 3, 20, 26), (1, 1, 20, 26), (1, 3, 11, 20), (1, 3, 20, 41)])
def test_images_out_of_range_are_refused(open_engine: Any, engine: Engine, shape: tuple[int, ...]) -> None:
    runner = open_engine()
    with pytest.raises(AbnFastError, match="the engine takes 1:2:4 images of 3 channels and 12x12:20x26:40x40 pixels"):
        runner.run(torch.zeros(shape))
    assert not engine.contexts


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": "1.2.2"}, r"built by TensorRT 1.2.2, and 1.2.3 is installed: export it again, or install 1.2.2"),
        ({"cuda": HostCuda("sm_75")}, r"built for sm_86, sm_89, and this card is sm_75"),
        ({"options": RunnerOptions(threads=2)}, "threads=2: they are of the CPU"),
        ({"options": RunnerOptions(dtype=torch.half)}, "is fp16: dtype=torch.float16 is chosen when it is exported"),
        ({"options": RunnerOptions(outputs=("map",))}, "has logits, attention"),
        ({"module": runtime_module(VERSION, None, "bad\nlog")}, "cannot be loaded: bad"),
        (
            {"module": runtime_module(VERSION, None, "(cudaError 35: CUDA driver version is insufficient)")},
            "cannot be loaded: it needs a GPU and its driver",
        ),
    ],
)
def test_what_cannot_run_is_told_in_one_line(open_engine: Any, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        open_engine(**changed)
    assert "\n" not in str(error.value)


def test_the_stand_in_has_only_what_the_real_runtime_has() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    pairs = ((Context, module.IExecutionContext), (Engine, module.ICudaEngine))
    for ours, real in pairs:
        public = {name for name, value in vars(ours).items() if callable(value) and not name.startswith("_")}
        assert public - {"compute"} <= set(dir(real))
    config = {"set_execution_context_allocation_strategy", "cuda_graph_strategy"}
    assert config <= set(dir(module.IRuntimeConfig))
    assert module.ExecutionContextAllocationStrategy.USER_MANAGED
    assert module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert "deserialize_cuda_engine" in dir(module.Runtime)
