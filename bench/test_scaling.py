"""How cost grows with classes, maps, images, resolution and tasks, and how many launches it takes; on the CPU."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.benchmark_report import Case, Comparison
from abn_fast.export.optimize import optimize_for_inference
from abn_fast.export.optimize.head import HeadResult, InferenceHead
from abn_fast.modules import AttentionHead, MultiTaskABN
from bench._compare import kept, note, rotated
from bench._count import exponent, launches, peak_bytes
from bench._processes import step_times
from bench.peers.published_head import PublishedHead
from bench.peers.published_inference import published
from bench.peers.published_multi_task import task_by_task

Outputs = Callable[[], list[Tensor]]

CHANNELS, FEATURES = 512, 256
"""Of the head's input and of the features it gates, as in a ResNet-18."""
ROUNDS = 5
TOLERANCE = 1e-3
"""Norm of the difference from the peer's results, as a share of their norm."""
NOISE = 0.1
"""What an exponent may be above the peer's, beside the quartiles of both."""


class Ways(NamedTuple):
    """The same outputs from us and from the peer that ours is held to; others are only compared with."""

    ours: Outputs
    peer: Outputs
    others: Mapping[str, Outputs] = {}


def head(case: Case) -> Ways:
    """One head in both ways, on the same parameters: outputs, and in training all gradients."""
    with torch.device("meta"):
        ours, peer = AttentionHead(CHANNELS, case.classes), PublishedHead(CHANNELS, case.classes)
    peer.to_empty(device="cpu")
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    ours.load_state_dict(peer.state_dict(), assign=True)
    stage_output, features = (torch.randn(case.batch, c, case.size, case.size) for c in (CHANNELS, FEATURES))

    def evaluate(compute: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> Outputs:
        @torch.inference_mode()
        def run() -> list[Tensor]:
            return list(compute(stage_output, features))

        return run

    def train(module: torch.nn.Module) -> Outputs:
        inputs = [each.clone().requires_grad_() for each in (stage_output, features)]
        named = {name: each.requires_grad_() for name, each in sorted(module.named_parameters()) if name != "bn1.bias"}

        def run() -> list[Tensor]:
            attention_logits, gated, _ = module(*inputs)
            outputs = [attention_logits, gated]
            return [*outputs, *torch.autograd.grad(outputs, [*inputs, *named.values()], [o.sign() for o in outputs])]

        return run

    if case.mode == "training":
        return Ways(train(ours), train(peer))
    deployed = InferenceHead(ours, torch.float32, classifies=True, gates=True, keeps_evidence=False).float()
    return Ways(evaluate(lambda *x: _outputs(deployed(*x))), evaluate(peer.eval()))


def model(case: Case) -> Ways:
    """Prediction and map."""
    network = create_model(case.model, num_classes=case.classes).eval()
    assert isinstance(network, AttentionBranchNetwork)
    images = torch.randn(case.batch, 3, case.size, case.size)
    fast, slow = optimize_for_inference(network), published(network)

    @torch.inference_mode()
    def ours() -> list[Tensor]:
        return list(fast(images))

    return Ways(ours, lambda: list(slow(images)[1:]), _plain(case, images))


def tasks(case: Case) -> Ways:
    """Of a network of several tasks: prediction and map of each."""
    network = create_model(case.model, num_classes=case.tasks).eval()
    assert isinstance(network, MultiTaskABN)
    images = torch.randn(case.batch, 3, case.size, case.size)

    @torch.inference_mode()
    def ours() -> list[Tensor]:
        return list(network(images))

    @torch.inference_mode()
    def loop() -> list[Tensor]:
        return list(task_by_task(network, images))

    return Ways(ours, loop)


class Sweep(NamedTuple):
    """A case along one of its numbers."""

    ways: Callable[[Case], Ways]
    case: Case
    along: str
    values: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.case.model}, {self.case.mode}, by {self.along}"


CLASSES, MAPS = (100, 1000, 5000, 21841), (7, 14, 28, 56)
HEAD, MODEL = Case("attention head", batch=2), Case("abn_resnet18", batch=1)
SWEEPS = [
    Sweep(head, replace(HEAD, size=7), "classes", CLASSES),
    Sweep(head, replace(HEAD, size=7, mode="training"), "classes", CLASSES),
    Sweep(head, replace(HEAD, classes=100), "size", MAPS),
    Sweep(head, replace(HEAD, classes=100, mode="training"), "size", MAPS),
    Sweep(model, replace(MODEL, size=224), "classes", (10, 1000, 10000)),
    Sweep(model, replace(MODEL, classes=1000), "size", (112, 224, 448)),
    Sweep(model, replace(MODEL, size=224, batch=0, classes=1000), "batch", (1, 2, 4, 8, 16)),
    Sweep(tasks, Case("multi_task_abn_cifar_resnet20", batch=4, size=32), "tasks", (1, 10, 40, 100)),
]


@pytest.mark.models("abn_resnet18", "multi_task_abn_cifar_resnet20")
@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_nothing_of_ours_grows_faster(sweep: Sweep, benchmark: Any) -> None:
    seconds: dict[str, dict[int, list[float]]] = {}
    memory: dict[str, dict[int, list[float]]] = {}
    for value in sweep.values:
        case = sweep.case.at(sweep.along, value)
        ways = sweep.ways(case)
        for own, theirs in zip(ways.ours(), ways.peer(), strict=True):
            assert (own - theirs).norm() <= TOLERANCE * theirs.norm()
        runs = {"ours": ways.ours, "published": ways.peer, **ways.others}
        for name, times in rotated(runs, ROUNDS, idle=0, untimed=False).items():
            seconds.setdefault(name, {})[value] = times
        for name, run in runs.items():
            memory.setdefault(name, {})[value] = [float(peak_bytes(run))]
        for quantity, found in (("seconds", seconds), ("bytes", memory)):
            rounds = {name: found[name][value] for name in runs}
            note(benchmark, *against_each(case, quantity, rounds))
    kept(benchmark)
    for quantity, found in (("seconds", seconds), ("bytes", memory)):
        case = replace(sweep.case, mode=f"{sweep.case.mode}, {quantity} by {sweep.along}")
        growth = Comparison(
            case, "exponent", exponent("ours", found["ours"]), exponent("published", found["published"])
        )
        note(benchmark, growth)
        assert growth.peer is not None
        assert growth.ours.lower <= growth.peer.upper + NOISE, f"{case}: {growth.ours} against {growth.peer}"


@pytest.mark.models("abn_resnet50")
def test_fewer_launches_at_batch_1(benchmark: Any) -> None:
    """A small image: the number does not depend on it."""
    network = create_model("abn_resnet50", num_classes=1000).eval()
    assert isinstance(network, AttentionBranchNetwork)
    peer, fast, images = published(network), optimize_for_inference(network), torch.randn(1, 3, 64, 64)
    ours = network.attention_branch.head
    assert isinstance(ours, AttentionHead)
    x, features = torch.randn(1, ours.in_channels, 4, 4), torch.randn(1, 1024, 4, 4)
    plain_head = PublishedHead(ours.in_channels, ours.num_classes).eval()
    deployed = InferenceHead(copy.deepcopy(ours), torch.float32, classifies=True, gates=True, keeps_evidence=False)
    deployed.float()
    with torch.inference_mode():
        counts = {
            "optimize_for_inference": launches(lambda: fast(images)),
            "published": launches(lambda: peer(images)),
            "ours as trained": launches(lambda: network(images)),
        }
        heads = {
            "optimize_for_inference": launches(lambda: deployed(x, features)),
            "published": launches(lambda: plain_head(x, features)),
            "ours as trained": launches(lambda: ours(x, features)),
        }
    case = Case("abn_resnet50", batch=1, size=64, classes=1000)
    for each, found in ((case, counts), (replace(HEAD, batch=1, size=4, classes=1000), heads)):
        note(benchmark, *against_each(each, "launches", {name: [float(count)] for name, count in found.items()}))
        assert found["optimize_for_inference"] < found["published"]
    kept(benchmark)


@pytest.mark.models("abn_cifar_resnet20")
def test_processes_that_train_together(tmp_path: Path, benchmark: Any) -> None:
    """One thread each, each with a batch of its own; a step that takes no longer with more of them scales perfectly."""
    for processes in (1, 2):
        times = step_times("abn_cifar_resnet20", processes, tmp_path)
        case = Case("abn_cifar_resnet20", batch=16, size=32, mode="training", classes=10, processes=processes)
        note(benchmark, Comparison.of(case, "seconds", times))
    kept(benchmark)


def against_each(case: Case, quantity: str, rounds: dict[str, list[float]]) -> list[Comparison]:
    """The first way against every other."""
    ours, *others = rounds
    return [Comparison.of(case, quantity, {ours: rounds[ours], other: rounds[other]}) for other in others]


def _outputs(result: HeadResult) -> list[Tensor]:
    """In the published order."""
    return [each for each in (result.attention_logits, result.gated, result.attention) if each is not None]


def _plain(case: Case, images: Tensor) -> dict[str, Outputs]:
    try:
        from bench.peers.plain_backbone import plain_backbone
    except ModuleNotFoundError:
        return {}
    plain = plain_backbone(case.model.removeprefix("abn_"), case.classes)
    return {"timm's plain backbone, no map": lambda: [plain(images)]}
