"""How torch computes: eager, compiled, or as a CUDA graph."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from abn_fast import AbnFastError
from abn_fast.export import InferenceSession, optimize_for_inference
from abn_fast.export.optimize.cuda_graph import MOST, CudaGraphNetwork
from abn_fast.export.optimize.modes import forward_in
from tests.export._networks import outputs_of, relative_error, small
from tests.export.conftest import Exported


@pytest.mark.slow
def test_a_compiled_session_computes_its_own_network_in_several_threads() -> None:
    images = torch.randn(2, 3, 20, 26)
    for seed in (1, 2):  # graphs of the first must not serve the second
        model, _ = small("abn-cifar_resnet8")
        torch.manual_seed(seed)
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.1, 0.3)
        session = InferenceSession(model, mode="compiled")
        assert session.provider == "cpu, float32, compiled"
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(session, [images] * 3))
        expected = outputs_of(model, images)
        for result in results:
            assert all(relative_error(getattr(result, name), expected[name]) < 1e-4 for name in result._fields)


@pytest.mark.slow
def test_a_compiled_network_computes_what_the_eager_one_does() -> None:
    model, images = small("abn-cifar_resnet8")
    names = ["attention", "attention_logits", "logits"]
    expected = outputs_of(model, images)
    compiled = optimize_for_inference(model, outputs=names, mode="compiled")
    with torch.inference_mode():
        results = [compiled(images), copy.deepcopy(compiled)(images), compiled.double().float()(images)]
    for result in results:
        assert list(result._fields) == names
        assert not any(output.requires_grad for output in result)
        assert all(relative_error(getattr(result, name), expected[name]) < 1e-4 for name in names)
    assert "mode='compiled'" in repr(compiled)
    assert not any(key.startswith("_") for key in compiled.state_dict())


def test_a_network_is_compiled_anew_when_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small("abn-cifar_resnet8")
    made: list[nn.Module] = []

    def compile_nothing(network: nn.Module) -> nn.Module:
        made.append(network)
        return network

    monkeypatch.setattr("abn_fast.export.optimize.modes.CompiledNetwork", compile_nothing)
    compiled = optimize_for_inference(model, mode="compiled")
    assert len(made) == 1
    with torch.no_grad():
        expected = optimize_for_inference(model)(images)
        for ours, theirs in zip(compiled(images), expected, strict=True):
            assert relative_error(ours, theirs) <= 1e-6
    compiled.to(torch.float32)
    assert len(made) == 2
    assert compiled(images)._fields == expected._fields


class FakeGraph:
    """Does on the CPU what a CUDA graph does: repeats what was recorded, on the same storage."""

    made: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.repeat: Callable[[], None] | None = None
        self.made.append(self)

    def replay(self) -> None:
        assert self.repeat is not None
        self.repeat()


class FakeNetwork(nn.Module):
    """Records its calls into the graph that is being captured."""

    recording: FakeGraph | None = None

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> list[Tensor]:
        self.calls += 1
        outputs = [images.sum((1, 2, 3)), images * 2]
        if self.recording is not None:

            def repeat() -> None:
                outputs[0].copy_(images.sum((1, 2, 3)))
                outputs[1].copy_(images * 2)

            self.recording.repeat = repeat
        return outputs


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """A network for `CudaGraphNetwork` where there is no GPU."""
    fake = FakeNetwork()

    @contextlib.contextmanager
    def capture(graph: FakeGraph) -> Iterator[None]:
        fake.recording = graph
        yield
        fake.recording = None

    class Stream:
        def __init__(self, device: torch.device) -> None: ...

        def wait_stream(self, other: "Stream") -> None: ...

    FakeGraph.made = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, lambda given: contextlib.nullcontext())
    return fake


def test_a_shape_is_recorded_once_and_replayed(network: FakeNetwork) -> None:
    recorded = CudaGraphNetwork(network, torch.device("cpu"))
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    results = [recorded(first), recorded(second)]
    calls = network.calls
    for images, (total, doubled) in zip((first, second), results, strict=True):  # the second left the first as it was
        torch.testing.assert_close(total, images.sum((1, 2, 3)))
        torch.testing.assert_close(doubled, images * 2)
    recorded(first)
    assert network.calls == calls
    assert len(FakeGraph.made) == 1
    assert recorded(torch.randn(1, 3, 4, 5))[1].shape == (1, 3, 4, 5)
    assert len(FakeGraph.made) == 2


def test_a_network_on_a_gpu_is_recorded(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    forward = forward_in("cuda-graph", network, torch.device("cuda", 0))
    forward(images := torch.randn(2, 3, 4, 5))
    calls = network.calls
    torch.testing.assert_close(forward(2 * images)[1], 4 * images)
    assert network.calls == calls


def test_only_some_shapes_are_kept(network: FakeNetwork) -> None:
    recorded = CudaGraphNetwork(network, torch.device("cpu"))
    recorded(torch.zeros(1, 1, 1, 1))
    for size in range(2, MOST + 2):
        recorded(torch.zeros(1, 1, size, size))
        recorded(torch.zeros(1, 1, 2, 2))
    assert len(FakeGraph.made) == MOST + 1
    recorded(torch.zeros(1, 1, 2, 2))
    assert len(FakeGraph.made) == MOST + 1
    recorded(torch.zeros(1, 1, 1, 1))
    assert len(FakeGraph.made) == MOST + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fast"}, "mode='fast'; expected one of 'eager', 'compiled', 'cuda-graph'"),
        ({"mode": "cuda-graph", "device": "cpu"}, "mode='cuda-graph' is of GPUs, but the device is 'cpu'"),
    ],
)
def test_a_bad_mode_is_told_in_one_line(exported: Exported, arguments: dict[str, Any], message: str) -> None:
    for source in (exported.model, exported.checkpoint):
        with pytest.raises(AbnFastError, match=message):
            InferenceSession(source, **arguments)
    with pytest.raises(AbnFastError, match=message):
        optimize_for_inference(exported.model, mode=arguments["mode"])


def test_a_mode_is_of_torch_alone(exported: Exported) -> None:
    with pytest.raises(AbnFastError, match=r"mode='compiled' is of torch, but onnxruntime runs .*model.onnx"):
        InferenceSession(exported.file, mode="compiled")
    assert InferenceSession(exported.checkpoint, mode="eager", device="cpu").provider == "cpu, float32"
