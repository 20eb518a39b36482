"""ResNet-50 ABN at 224x224 with its map on this CPU: our files and sessions against the network as published.

One run measures all paths turn by turn. Asserted is what holds on any machine: that the results are right, that float32
reaches its ratio, and that the session adds nothing. The other ratios depend on the CPU's instructions (16 bit needs
AMX, int8 VNNI) and are printed and recorded.
"""

import statistics
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.data import IMAGENET
from abn_fast.export import BatchRange, InferenceSession, SizeRange
from abn_fast.export.describe import describe
from abn_fast.export.onnx.program import write_program
from abn_fast.export.proof import ProofImages
from abn_fast.export.quantize import quantize_onnx
from abn_fast.export.served import served_network
from bench._compare import rotated
from bench._peak import peak
from bench.peers.published_network import PublishedNetwork

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="openvino is not installed")
from bench.peers.published_export import (
    OnnxRuntimePeer,
    OpenVinoPeer,
    export_published,
    quantize_published,
)

BATCHES = {1: 7, 8: 5}
"""Batch sizes and rounds of each."""
PUBLISHED = "published, torch eager fp32"
LEAST_FP32 = {1: 1.6, 8: 1.4}
"""How many times as fast as published the best float32 path must be, by batch."""
TARGETS = {"fp32": LEAST_FP32, "16 bit": {1: 3.3, 8: 2.9}, "int8": {1: 5.8, 8: 5.5}}
MOST_OVERHEAD = 0.03
"""What the session may add to its runtime's time."""
TOLERANCES = {"fp32": 1e-4, "16 bit": 0.05, "int8": 0.25}
"""Norm of the difference of logits and of maps from the published network's, as a share of their norm."""

Outputs = Callable[[Tensor], dict[str, Tensor]]


class Way(NamedTuple):
    """One way to compute the network."""

    run: Outputs
    precision: str
    ours: bool


class Measured(NamedTuple):
    """All ways at one batch size, in one run."""

    ways: dict[str, Way]
    seconds: dict[str, float]
    """Median of each."""
    operations: int
    """Of the published network for the batch."""


def network() -> AttentionBranchNetwork:
    """A ResNet-50 ABN of 1000 classes in which rounding grows no more than in a trained one.

    Its norms have seen photographs, and the residual of each block is small beside its shortcut.
    """
    torch.manual_seed(0)
    model = create_model("abn_resnet50", num_classes=1000).train()
    assert isinstance(model, AttentionBranchNetwork)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            if name.endswith(".bn3") and "head" not in name:
                torch.nn.init.constant_(module.weight, 0.2)
    with torch.no_grad():
        model(photographs()[:16])
    return model.eval()


@cache
def photographs() -> Tensor:
    """24 crops of real photographs, normalised: 16 to calibrate on, 8 to compare on."""
    return ProofImages(IMAGENET).photographs(24, (224, 224))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("inference")
    model, published = network(), PublishedNetwork(network()).eval()
    served = served_network(model)
    metadata = describe(
        model,
        outputs=served.outputs,
        precision="fp32",
        batch=BatchRange(),
        size=SizeRange.fixed((224, 224)),
        preprocessing=IMAGENET,
    )
    write_program(served, metadata, folder / "ours.onnx")
    quantize_onnx(folder / "ours.onnx", folder / "ours.int8.onnx", photographs()[:16].split(8))
    export_published(published, folder / "published.onnx")
    quantize_published(folder / "published.onnx", folder / "published.int8.onnx", photographs()[:16])
    return model, published, folder


@pytest.fixture(scope="module")
def ways(files: Any) -> dict[str, Way]:
    model, published, folder = files

    @torch.inference_mode()
    def eager(images: Tensor) -> dict[str, Tensor]:
        return dict(zip(("attention_logits", "logits", "attention"), published(images), strict=True))

    def session(*arguments: Any, **options: Any) -> Outputs:
        opened = InferenceSession(*arguments, **options)
        return lambda images: opened(images)._asdict()

    whole, small = folder / "ours.onnx", folder / "ours.int8.onnx"
    plain, plain_small = folder / "published.onnx", folder / "published.int8.onnx"
    bf16 = torch.bfloat16
    return {
        PUBLISHED: Way(eager, "fp32", ours=False),
        "published, onnxruntime fp32": Way(OnnxRuntimePeer(plain), "fp32", ours=False),
        "published, openvino fp32": Way(OpenVinoPeer(plain, "f32"), "fp32", ours=False),
        "published, openvino bf16": Way(OpenVinoPeer(plain, "bf16"), "16 bit", ours=False),
        "published, onnxruntime int8": Way(OnnxRuntimePeer(plain_small), "int8", ours=False),
        "published, openvino int8": Way(OpenVinoPeer(plain_small, "f32"), "int8", ours=False),
        "session, torch fp32": Way(session(model), "fp32", ours=True),
        "session, onnxruntime fp32": Way(session(whole), "fp32", ours=True),
        "session, openvino fp32": Way(session(whole, runtime="openvino"), "fp32", ours=True),
        "session, torch bf16": Way(session(model, dtype=bf16), "16 bit", ours=True),
        "session, openvino bf16": Way(session(whole, runtime="openvino", dtype=bf16), "16 bit", ours=True),
        "session, onnxruntime int8": Way(session(small), "int8", ours=True),
        "session, openvino int8": Way(session(small, runtime="openvino"), "int8", ours=True),
    }


@pytest.fixture(scope="module", params=BATCHES, ids=lambda batch: f"batch {batch}")
def measured(request: pytest.FixtureRequest, files: Any, ways: dict[str, Way]) -> Measured:
    """All ways, right first and then timed turn by turn."""
    images = photographs()[-request.param :].contiguous()
    expected = ways[PUBLISHED].run(images)
    for name, way in ways.items():
        computed = way.run(images)
        for output in ("logits", "attention"):
            difference = (computed[output] - expected[output]).norm() / expected[output].norm()
            assert difference <= TOLERANCES[way.precision], f"{name}: {output} differ by {difference:.1e}"
    times = rotated({name: partial(way.run, images) for name, way in ways.items()}, BATCHES[request.param])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        files[1](images)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return Measured(ways, medians, counter.get_total_flops())


def batch_of(request: pytest.FixtureRequest) -> int:
    batch: int = request.node.callspec.params["measured"]
    return batch


def fastest(measured: Measured, precision: str, ours: bool) -> str:
    names = [name for name, way in measured.ways.items() if (way.precision, way.ours) == (precision, ours)]
    return min(names, key=lambda name: measured.seconds[name])


@pytest.mark.parametrize("precision", TARGETS)
def test_our_fastest_path_against_the_published_network(
    measured: Measured, precision: str, request: pytest.FixtureRequest, benchmark: Any
) -> None:
    batch = batch_of(request)
    ours = fastest(measured, precision, ours=True)
    case = f"ResNet-50 ABN 224x224 with map, batch {batch}"
    ratios = {name: measured.seconds[PUBLISHED] / seconds for name, seconds in measured.seconds.items()}
    print(f"\n{case}, {precision}: target {TARGETS[precision][batch]}")
    for name, way in measured.ways.items():
        if way.precision == precision:
            share = measured.operations / measured.seconds[name] / peak(precision)
            milliseconds = 1e3 * measured.seconds[name]
            print(f"  {name:32}{milliseconds:9.1f} ms, {ratios[name]:5.2f} times, {share:.2f} of the matrix peak")
    benchmark.extra_info.update(
        case=case,
        path=ours,
        peer=PUBLISHED,
        ratio=round(ratios[ours], 3),
        target=TARGETS[precision][batch],
        share_of_peak=round(measured.operations / measured.seconds[ours] / peak(precision), 3),
        ratios={name: round(ratio, 3) for name, ratio in ratios.items()},
    )
    images = photographs()[-batch:].contiguous()
    benchmark.pedantic(lambda: measured.ways[ours].run(images), rounds=3, warmup_rounds=1)
    if precision == "fp32":
        assert ratios[ours] >= LEAST_FP32[batch]


@pytest.mark.parametrize("precision", TARGETS)
def test_our_fastest_path_against_the_fastest_runtime_on_a_plain_export(
    measured: Measured, precision: str, request: pytest.FixtureRequest, benchmark: Any
) -> None:
    batch = batch_of(request)
    ours, plain = (fastest(measured, precision, ours=own) for own in (True, False))
    ratio = measured.seconds[plain] / measured.seconds[ours]
    case = f"ResNet-50 ABN 224x224 with map, batch {batch}, {precision}"
    print(f"\n{case}: {ours} is {ratio:.2f} times as fast as {plain}")
    benchmark.extra_info.update(case=case, path=ours, peer=plain, ratio=round(ratio, 3))
    images = photographs()[-batch:].contiguous()
    benchmark.pedantic(lambda: measured.ways[ours].run(images), rounds=3, warmup_rounds=1)
    if precision == "fp32":
        assert ratio >= 0.97


@pytest.mark.parametrize("batch", BATCHES)
def test_the_session_adds_next_to_nothing_to_its_runtime(files: Any, batch: int, benchmark: Any) -> None:
    path = files[2] / "ours.int8.onnx"  # the fastest, in which an overhead shows most
    session = InferenceSession(path)
    bare, arrays = session._runner._session, photographs()[-batch:].numpy()  # type: ignore[attr-defined]  # a runtime's own
    assert all(
        map(torch.equal, map(torch.from_numpy, bare.run(None, {"images": arrays})), session(torch.from_numpy(arrays)))
    )
    runs = {"session": lambda: session(arrays), "onnxruntime": lambda: bare.run(None, {"images": arrays})}
    times = rotated(runs, rounds=25 if batch == 1 else 11, idle=0.02)
    overhead = statistics.median(
        ours / theirs - 1 for ours, theirs in zip(times["session"], times["onnxruntime"], strict=True)
    )
    case = f"ResNet-50 ABN 224x224 with map, int8, batch {batch}"
    benchmark.extra_info.update(case=case, path="session", peer="onnxruntime alone", ratio=round(1 / (1 + overhead), 4))
    benchmark.pedantic(runs["session"], rounds=3)
    print(f"\n{case}: the session adds {overhead:.1%}")
    assert overhead < MOST_OVERHEAD
