"""ResNet-50 ABN at 224x224 with its map on this CPU: our files and sessions against the network as published.

One run measures all paths turn by turn, after their results are compared. What a path may reach follows from the same
run: the published network's operations at the speed of this machine's matrix products, its bound. Asserted is the aim,
or a share of the bound where a machine whose instructions have no fast products of that precision cannot reach the aim.
"""

import copy
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.benchmark_report import Case, Comparison, Measured
from abn_fast.data import IMAGENET
from abn_fast.export import InferenceSession
from abn_fast.export.quantize import quantize_onnx
from bench._compare import note, rotated
from bench._onnx import write_onnx
from bench._peak import peak
from bench._settled import photographs, settle_norms
from bench.peers.published_network import PublishedNetwork

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="openvino is not installed")
from bench.peers.published_export import (
    OnnxRuntimePeer,
    OpenVinoPeer,
    export_published,
    quantize_published,
)

BATCHES = {1: 11, 8: 5}
"""Batch sizes and rounds of each."""
PUBLISHED = "published, torch eager fp32"
AIMS = {"fp32": {1: 1.6, 8: 1.4}, "16 bit": {1: 3.3, 8: 2.9}, "int8": {1: 5.8, 8: 5.5}}
"""How many times as fast as published our best path should be, by precision and batch."""
LEAST_OF_BOUND = 0.75
"""What our best path reaches at least of the bound, where that is less than the aim."""
LEAST_OF_PLAIN = 0.97
"""What it reaches at least of the speed of the best runtime on a plain export of the published network."""
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


class Race(NamedTuple):
    """All ways at one batch size, in one run."""

    batch: int
    ways: dict[str, Way]
    rounds: dict[str, list[float]]
    """Seconds of each round."""
    operations: int
    """Of the published network for the batch."""

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, peer: str = PUBLISHED) -> float:
        """How many times as fast as a peer, in the median of the rounds."""
        times = zip(self.rounds[name], self.rounds[peer], strict=True)
        return statistics.median(theirs / ours for ours, theirs in times)

    def bound(self, precision: str) -> float:
        """How many times as fast as published whoever computes all its operations as fast as matrix products are."""
        return self.median(PUBLISHED) * peak(precision) / self.operations

    def fastest(self, precision: str, ours: bool) -> str:
        names = [name for name, way in self.ways.items() if (way.precision, way.ours) == (precision, ours)]
        return min(names, key=self.median)

    def comparison(self, name: str, peer: str, aim: float) -> Comparison:
        case = Case("abn_resnet50", self.batch, 224, self.ways[name].precision, classes=1000)
        ours, theirs = (Measured.of(each, self.rounds[each]) for each in (name, peer))
        return Comparison(case, "seconds", ours, theirs, aim)


def network() -> AttentionBranchNetwork:
    """A ResNet-50 ABN of 1000 classes in which rounding grows no more than in a trained one.

    Its norms have seen photographs, and the residual of each block is small beside its shortcut.
    """
    torch.manual_seed(0)
    model = create_model("abn_resnet50", num_classes=1000)
    assert isinstance(model, AttentionBranchNetwork)
    settle_norms(model)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("inference")
    model, published = network(), PublishedNetwork(network()).eval()
    write_onnx(model, folder / "ours.onnx", IMAGENET)
    write_onnx(model, folder / "ours.fp16.onnx", IMAGENET, "fp16")
    quantize_onnx(folder / "ours.onnx", folder / "ours.int8.onnx", photographs()[:16].split(8))
    export_published(published, folder / "published.onnx")
    export_published(copy.deepcopy(published).half(), folder / "published.fp16.onnx")
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

    whole, half, small = (folder / f"ours{kind}.onnx" for kind in ("", ".fp16", ".int8"))
    plain, plain_half, plain_small = (folder / f"published{kind}.onnx" for kind in ("", ".fp16", ".int8"))
    bf16, fp16 = torch.bfloat16, torch.float16
    return {
        PUBLISHED: Way(eager, "fp32", ours=False),
        "published, onnxruntime fp32": Way(OnnxRuntimePeer(plain), "fp32", ours=False),
        "published, openvino fp32": Way(OpenVinoPeer(plain, "f32"), "fp32", ours=False),
        "published, onnxruntime fp16": Way(OnnxRuntimePeer(plain_half), "16 bit", ours=False),
        "published, openvino fp16": Way(OpenVinoPeer(plain, "f16"), "16 bit", ours=False),
        "published, openvino bf16": Way(OpenVinoPeer(plain, "bf16"), "16 bit", ours=False),
        "published, onnxruntime int8": Way(OnnxRuntimePeer(plain_small), "int8", ours=False),
        "published, openvino int8": Way(OpenVinoPeer(plain_small, "f32"), "int8", ours=False),
        "session, torch fp32": Way(session(model), "fp32", ours=True),
        "session, onnxruntime fp32": Way(session(whole), "fp32", ours=True),
        "session, openvino fp32": Way(session(whole, runtime="openvino"), "fp32", ours=True),
        "session, torch bf16": Way(session(model, dtype=bf16), "16 bit", ours=True),
        "session, onnxruntime fp16": Way(session(half), "16 bit", ours=True),
        "session, openvino fp16": Way(session(whole, runtime="openvino", dtype=fp16), "16 bit", ours=True),
        "session, openvino bf16": Way(session(whole, runtime="openvino", dtype=bf16), "16 bit", ours=True),
        "session, onnxruntime int8": Way(session(small), "int8", ours=True),
        "session, openvino int8": Way(session(small, runtime="openvino"), "int8", ours=True),
    }


@pytest.fixture(scope="module", params=BATCHES, ids=lambda batch: f"batch {batch}")
def race(request: pytest.FixtureRequest, files: Any, ways: dict[str, Way]) -> Race:
    """All ways, right first and then timed turn by turn."""
    images = photographs()[-request.param :].contiguous()
    expected = ways[PUBLISHED].run(images)
    for name, way in ways.items():
        computed = way.run(images)
        for output in ("logits", "attention"):
            difference = (computed[output] - expected[output]).norm() / expected[output].norm()
            assert difference <= TOLERANCES[way.precision], f"{name}: {output} differ by {difference:.1e}"
    rounds = rotated({name: partial(way.run, images) for name, way in ways.items()}, BATCHES[request.param])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        files[1](images)
    return Race(request.param, ways, rounds, counter.get_total_flops())


@pytest.mark.models("abn_resnet50")
@pytest.mark.parametrize("precision", AIMS)
def test_our_fastest_path_against_the_published_network(race: Race, precision: str, benchmark: Any) -> None:
    ours, aim, bound = race.fastest(precision, ours=True), AIMS[precision][race.batch], race.bound(precision)
    print(f"\nResNet-50 ABN 224x224 with map, batch {race.batch}, {precision}: aim {aim}, bound {bound:.2f}")
    print(f"  {'':32}{'quartiles and median, ms':>27}   times  of the matrix peak")
    for name, way in race.ways.items():
        if way.precision == precision:
            took = Measured.of(name, race.rounds[name])
            share = race.operations / took.median / peak(precision)
            milliseconds = "".join(f"{1e3 * value:9.1f}" for value in (took.lower, took.median, took.upper))
            print(f"  {name:32}{milliseconds}{race.ratio(name):8.2f}{share:8.2f}")
    named = [name for name, way in race.ways.items() if way.precision == precision and name != PUBLISHED]
    note(benchmark, *(race.comparison(name, PUBLISHED, aim) for name in named if race.ways[name].ours))
    benchmark.extra_info.update(bound=round(bound, 3), peak=round(peak(precision)), path=ours)
    benchmark.pedantic(lambda: race.ways[ours].run(photographs()[-race.batch :]), rounds=1)
    assert race.ratio(ours) >= min(aim, LEAST_OF_BOUND * bound)


@pytest.mark.models("abn_resnet50")
@pytest.mark.parametrize("precision", AIMS)
def test_our_fastest_path_against_the_fastest_runtime_on_a_plain_export(
    race: Race, precision: str, benchmark: Any
) -> None:
    ours, plain = (race.fastest(precision, ours=own) for own in (True, False))
    note(benchmark, race.comparison(ours, plain, LEAST_OF_PLAIN))
    benchmark.pedantic(lambda: race.ways[ours].run(photographs()[-race.batch :]), rounds=1)
    assert race.ratio(ours, plain) >= LEAST_OF_PLAIN


@pytest.mark.models("abn_resnet50")
@pytest.mark.parametrize("batch", BATCHES)
def test_the_session_adds_next_to_nothing_to_its_runtime(files: Any, batch: int, benchmark: Any) -> None:
    path = files[2] / "ours.int8.onnx"  # the fastest, in which an overhead shows most
    session = InferenceSession(path)
    bare, arrays = session._runner._session, photographs()[-batch:].numpy()  # type: ignore[attr-defined]  # a runtime's own
    assert all(
        map(torch.equal, map(torch.from_numpy, bare.run(None, {"images": arrays})), session(torch.from_numpy(arrays)))
    )
    runs = {"session": lambda: session(arrays), "onnxruntime alone": lambda: bare.run(None, {"images": arrays})}
    times = rotated(runs, rounds=25 if batch == 1 else 11, idle=0.02)
    case = Case("abn_resnet50", batch, 224, "int8", classes=1000)
    ours, alone = (Measured.of(name, seconds) for name, seconds in times.items())
    note(benchmark, Comparison(case, "seconds", ours, alone))
    benchmark.pedantic(runs["session"], rounds=3)
    overhead = statistics.median(own / bare - 1 for own, bare in zip(*times.values(), strict=True))
    print(f"\nthe session adds {overhead:.1%}")
    assert overhead < MOST_OVERHEAD
