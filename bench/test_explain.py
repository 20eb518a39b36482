"""What an explanation costs: ResNet-50 at 224x224, batch 8, on this CPU; ABN's map against plain networks and Grad-CAM.

One run measures all ways turn by turn. Asserted are the shares that pictures and class evidence may take of a forward
pass, and that the maps are right; the ratios between networks are printed and recorded.
"""

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from abn_fast import create_model
from abn_fast.benchmark_report import Case, Comparison, Measured
from abn_fast.explain import explain, explain_each, overlay, upsample
from abn_fast.explain.methods.activations import activations_of
from abn_fast.explain.methods.class_evidence import class_evidence_of
from abn_fast.modules import ABNOutput, AttentionBranchNetwork, Classifier
from bench._compare import note, rotated

BATCH, SIDE, CLASSES, ROUNDS = 8, 224, 1000, 3
MOST_OVERLAY, MOST_EVIDENCE = 0.05, 0.10
"""Shares of the forward pass that upsampling with overlay, and class evidence, may take."""
PLAIN, ABN = "plain, prediction", "ABN, prediction and map"
OURS, LIBRARY = "plain, explain() with Grad-CAM", "plain, pytorch-grad-cam"
LAST_STAGE = "plain, pytorch-grad-cam through the last stage alone"
PICTURES, EVIDENCE = "ABN, upsampling and overlay alone", "ABN, evidence of five classes alone"
ALL = "ABN, prediction and all five methods"
CASE = Case("abn_resnet50", BATCH, SIDE, classes=CLASSES)
pytestmark = pytest.mark.models(CASE.model)

Run = Callable[[], Any]


@pytest.fixture(scope="module")
def networks() -> tuple[AttentionBranchNetwork, Classifier]:
    torch.manual_seed(0)
    abn, plain = (create_model(name, num_classes=CLASSES).eval() for name in ("abn_resnet50", "resnet50"))
    assert isinstance(abn, AttentionBranchNetwork)
    assert isinstance(plain, Classifier)
    return abn, plain


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def runs(networks: tuple[AttentionBranchNetwork, Classifier], images: Tensor) -> dict[str, Run]:
    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    abn, plain = networks
    last_layer: Any = plain.perception_branch.stage[-1]  # type: ignore[index]  # a sequence of blocks

    @torch.inference_mode()
    def predict(model: torch.nn.Module) -> Any:
        return model(images)

    def grad_cam() -> Any:
        """As the library's README runs it; without targets it explains the predicted classes."""
        with library.GradCAM(model=plain, target_layers=[last_layer]) as cam:
            return cam(input_tensor=images, targets=None)

    def grad_cam_through_the_last_stage() -> Any:
        plain.extractor.requires_grad_(False)
        try:
            return grad_cam()
        finally:
            plain.extractor.requires_grad_(True)

    output: ABNOutput = predict(abn)
    shown = torch.rand(BATCH, 3, SIDE, SIDE)
    with torch.no_grad():
        activations: Any = activations_of(abn, images)
        top = activations.logits.topk(5).indices
        _ = activations.attention_stage_output

    @torch.inference_mode()
    def pictures() -> Tensor:
        return overlay(shown, upsample(output.attention, (SIDE, SIDE)))

    @torch.inference_mode()
    def evidence() -> Tensor:
        activations.__dict__.pop("evidence", None)  # computed once for a batch
        return upsample(class_evidence_of(activations, top).flatten(0, 1), (SIDE, SIDE))

    return {
        PLAIN: lambda: predict(plain),
        ABN: lambda: predict(abn),
        PICTURES: pictures,
        EVIDENCE: evidence,
        OURS: lambda: explain_each(plain, images, ["gradcam"]),
        ALL: lambda: explain_each(abn, images, ["abn", "class-evidence", "cam", "gradcam", "gradcam++"]),
        LAST_STAGE: grad_cam_through_the_last_stage,
        LIBRARY: grad_cam,
    }


@pytest.fixture(scope="module")
def rounds(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Seconds of each round of each."""
    return rotated(runs, ROUNDS, idle=0.1)


@pytest.fixture(scope="module")
def seconds(rounds: dict[str, list[float]]) -> dict[str, float]:
    """Median of each."""
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    print(f"\nResNet-50 {SIDE}x{SIDE}, batch {BATCH}, {torch.get_num_threads()} threads")
    for name, median in medians.items():
        print(f"  {name:54}{1e3 * median:9.1f} ms, {median / medians[PLAIN]:6.3f} of {PLAIN}")
    return medians


@pytest.mark.parametrize(("part", "most"), [(PICTURES, MOST_OVERLAY), (EVIDENCE, MOST_EVIDENCE)])
def test_a_picture_costs_a_small_share_of_the_forward_pass(
    part: str, most: float, seconds: dict[str, float], runs: dict[str, Run], benchmark: Any
) -> None:
    share = seconds[part] / seconds[ABN]
    print(f"\n{part}: {share:.1%} of the forward pass")
    note(benchmark, Comparison(CASE, "share", Measured.of(f"{part}, of the forward pass", [share])))
    benchmark.pedantic(runs[part], rounds=3)
    assert share < most


@pytest.mark.parametrize("peer", [PLAIN, OURS, LAST_STAGE, LIBRARY])
def test_prediction_and_map_against_a_plain_network(
    peer: str, seconds: dict[str, float], rounds: dict[str, list[float]], benchmark: Any
) -> None:
    print(f"\n{ABN} takes {seconds[ABN] / seconds[peer]:.2f} times as long as {peer}")
    note(benchmark, Comparison.of(CASE, "seconds", {name: rounds[name] for name in (ABN, peer)}))
    benchmark.pedantic(lambda: None, rounds=1)


def test_our_grad_cam_is_the_librarys(
    networks: tuple[AttentionBranchNetwork, Classifier], images: Tensor, runs: dict[str, Run], benchmark: Any
) -> None:
    theirs = torch.from_numpy(runs[LIBRARY]())
    for parameter in networks[1].parameters():
        parameter.grad = None
    ours = explain(networks[1], images, method="gradcam")
    low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
    torch.testing.assert_close((ours - low) / (high - low), theirs, rtol=1e-3, atol=1e-3)
    benchmark.pedantic(lambda: None, rounds=1)


def test_operations(networks: tuple[AttentionBranchNetwork, Classifier], images: Tensor, benchmark: Any) -> None:
    abn, plain = networks

    def operations(run: Run) -> float:
        """GFLOP of an image, two a multiply-add."""
        with FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops()) / 1e9

    one = images[:1]
    with torch.no_grad():
        predicted = {"plain": operations(lambda: plain(one)), "ABN": operations(lambda: abn(one))}
    explained = operations(lambda: explain(plain, one, method="gradcam"))
    backward = operations(lambda: plain(one).amax().backward())
    for parameter in plain.parameters():
        parameter.grad = None
    print(f"\nGFLOP an image: plain {predicted['plain']:.1f}, ABN with map {predicted['ABN']:.1f}")
    print(f"  plain with our Grad-CAM {explained:.1f}, with a whole backward pass {backward:.1f}")
    benchmark.extra_info.update(
        case=f"ResNet-50 {SIDE}x{SIDE}", gflop={name: round(n, 2) for name, n in predicted.items()}
    )
    benchmark.pedantic(lambda: None, rounds=1)
    assert round(predicted["plain"], 1) == 8.2
    assert round(predicted["ABN"], 1) == 14.8  # 15.2 where evidence_conv runs over all pixels, as published
