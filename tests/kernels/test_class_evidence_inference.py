"""The torch ops of class_evidence_inference on a CPU; their kernels run in the interpreter, in another process."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._subclasses.fake_tensor import FakeTensorMode

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import _tuning, reference
from abn_fast.kernels._dispatch import force, force_triton
from abn_fast.kernels._tuning_file import candidates
from abn_fast.kernels.class_evidence_inference import _ops
from abn_fast.kernels.class_evidence_inference._plan import classes_of_a_part, make_plan, parts
from abn_fast.modules import AttentionHead
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]
CONFIGURATION = {"block_pixels": 64, "block_classes": 128}


def make_inputs(
    memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    stage_output = torch.randn(2, 6, 3, 5).to(dtype).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(70, 6, 1, 1).to(dtype), torch.randn(70).to(dtype)
    return stage_output, weight, bias, torch.randn(1, 70, 3, 3, dtype=reference.accumulator(dtype))


def make_head() -> AttentionHead:
    head = AttentionHead(6, 70)
    for norm in (head.bn1, head.bn2, head.bn3):
        assert norm is not None
        assert norm.running_mean is not None
        norm.running_mean.normal_()
    return head.eval()


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_class_evidence_inference.py")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    torch.library.opcheck(_ops.class_evidence_inference, inputs)
    torch.library.opcheck(_ops.class_evidence_inference, (*inputs[:3], None))
    torch.library.opcheck(_ops.class_evidence_taps_inference, inputs)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_compute_the_definition_on_a_cpu(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    expected = reference.class_evidence_inference(*inputs)
    with force(True):
        ours = kernels.class_evidence_inference(*inputs)
        pooled, taps = kernels.class_evidence_taps_inference(*inputs)
        log_map = kernels.class_evidence_log_map_inference(*inputs[:3])
    assert taps.shape[1] == 9 * parts(2, 15, 70) > 9
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close((pooled, reference.sum_taps(taps)), tuple(expected))
    torch.testing.assert_close(log_map, reference.class_evidence_log_map_inference(*inputs[:3]))


@pytest.mark.parametrize("target", ["sm_70", "sm_75"])
def test_without_tensor_cores_it_is_torchs_product(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs()
    pooled, score = reference.class_evidence_inference(*inputs)
    monkeypatch.setattr(kernels, "class_evidence_affine", reference.class_evidence_affine)
    with force_triton(), _tuning.pretend(target), torch.no_grad():
        ours = kernels.class_evidence_inference(*inputs)
        pooled_too, taps = kernels.class_evidence_taps_inference(*inputs)
    torch.testing.assert_close(tuple(ours), (pooled, score))
    torch.testing.assert_close((pooled_too, reference.sum_taps(taps)), (pooled, score))
    assert taps.shape[1] == 9 * parts(2, 15, 70)


@pytest.mark.parametrize("gate", ["residual", "product"])
def test_the_head_in_inference_is_one_op(gate: Any) -> None:
    head, f, g = make_head(), torch.randn(2, 6, 4, 5), torch.randn(2, 3, 4, 5)
    head.gate = gate
    recorder = AotEagerAndRecordGraphs()
    torch._dynamo.reset()
    with torch.no_grad():
        expected = head(f, g)
        with force(True):
            ours = torch.compile(head, backend=recorder, fullgraph=True)(f, g)
    torch.testing.assert_close(ours, expected)
    (graph,) = recorder.fw_graphs
    names = [str(node.target) for node in graph.graph.nodes if "abn_fast" in str(node.target)]
    assert names == ["abn_fast.attention_head_inference.default"]


def test_the_head_in_evaluation_has_gradients_where_they_are_asked_for() -> None:
    head = make_head().double()
    f, g = (torch.randn(2, c, 4, 5, dtype=torch.float64, requires_grad=True) for c in (6, 3))
    wanted = [f, g, *head.parameters()]
    found = []
    for uses in (False, True):
        with force(uses):
            logits, gated, attention = head(f, g)
        total = logits.square().sum() + gated.square().sum() + attention.sum()
        found.append(torch.autograd.grad(total, wanted, allow_unused=True))
    for ours, theirs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_under_autocast_the_product_is_16_bit() -> None:
    f, weight, bias, map_weight = make_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = kernels.class_evidence_inference(f, weight, bias, map_weight)
        with force(True):
            ours = kernels.class_evidence_inference(f, weight, bias, map_weight)
            pooled, taps = kernels.class_evidence_taps_inference(f, weight, bias, map_weight)
    assert [x.dtype for x in (*ours, pooled, taps)] == [torch.bfloat16] * 3 + [torch.float32]
    torch.testing.assert_close(tuple(ours), tuple(expected))


def test_shapes_are_known_of_tensors_on_a_gpu_that_is_not_there() -> None:
    with FakeTensorMode(), force(True), torch.no_grad():
        f, weight = torch.empty(2, 6, 3, 5, device="cuda"), torch.empty(70, 6, 1, 1, device="cuda")
        bias, map_weight = torch.empty(70, device="cuda"), torch.empty(1, 70, 3, 3, device="cuda")
        pooled, taps = kernels.class_evidence_taps_inference(f, weight, bias, map_weight)
        evidence = kernels.class_evidence_inference(f, weight, bias, map_weight)
    assert pooled.shape == evidence.pooled.shape == (2, 70)
    assert taps.shape == (2, 9 * parts(2, 15, 70), 3, 5)
    assert evidence.score.shape == (2, 1, 3, 5)


F, W, B, M = torch.zeros(2, 4, 3, 5), torch.zeros(7, 4, 1, 1), torch.zeros(7), torch.zeros(1, 7, 3, 3)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.class_evidence_inference(F[0], W, B, M), r"stage_output has shape \(4, 3, 5\)"),
    "no pixels": (lambda: kernels.class_evidence_log_map_inference(F[..., :0], W, B), r"\(2, 4, 3, 0\).*at least 1"),
    "channels": (
        lambda: kernels.class_evidence_inference(F, W[:, :3], B, M),
        r"\(7, 3, 1, 1\); expected \(K, 4, 1, 1\)",
    ),
    "rank of the weight": (
        lambda: kernels.class_evidence_inference(F, W[..., 0], B, M),
        r"weight has shape \(7, 4, 1\)",
    ),
    "no classes": (lambda: kernels.class_evidence_inference(F, W[:0], B[:0], M), r"weight has shape \(0, 4, 1, 1\)"),
    "bias": (lambda: kernels.class_evidence_inference(F, W, B[:3], M), r"bias has shape \(3,\); expected \(7,\)"),
    "map": (
        lambda: kernels.class_evidence_taps_inference(F, W, B, M[:, :3]),
        r"\(1, 3, 3, 3\); expected \(1, 7, 3, 3\)",
    ),
    "integers": (lambda: kernels.class_evidence_inference(F.int(), W, B, M), "stage_output .* torch.int32"),
    "two dtypes": (lambda: kernels.class_evidence_inference(F.half(), W, B, M), "weight .* torch.float32 .*float16"),
    "device": (
        lambda: kernels.class_evidence_inference(F, W.to("meta"), B, M),
        "weight of shape .* is on meta, .* on cpu",
    ),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@given(
    batch=st.integers(0, 300),
    pixels=st.integers(1, 5000),
    classes=st.integers(1, 3000),
    configuration=st.fixed_dictionaries(
        {
            name: st.sampled_from(values)
            for name, values in candidates("class_evidence_inference")["class_evidence_inference.evidence"].items()
        }
    ),
)
@settings(max_examples=300, deadline=None)
def test_every_plan_covers_every_pixel_and_class_once(
    batch: int, pixels: int, classes: int, configuration: dict[str, int]
) -> None:
    plan = make_plan(batch, pixels, classes, configuration)
    assert plan.parts == parts(batch, pixels, classes)
    assert 0 <= plan.groups * plan.group - batch < plan.group
    assert 0 <= plan.tiles * plan.block_pixels - plan.group * pixels < plan.block_pixels
    assert plan.parts == 1 or plan.blocks * plan.block_classes == classes_of_a_part(batch, pixels, classes)
    assert 0 <= plan.parts * plan.blocks * plan.block_classes - classes < plan.blocks * plan.block_classes
    touched = [
        {q // pixels for q in (start, min(start + plan.block_pixels, plan.group * pixels) - 1)}
        for start in range(0, min(plan.group * pixels, 100_000), plan.block_pixels)
    ]
    assert all(max(images) - min(images) < plan.slots for images in touched)
    in_two_tiles = any(max(a) == min(b) for a, b in pairwise(touched))
    assert not (plan.whole and in_two_tiles)


@pytest.mark.parametrize(
    ("batch", "programs", "count"),
    [(1, 128, 32), (8, 128, 4), (32, 128, 1), (64, 196, 1), (256, 784, 1)],
)
def test_a_batch_of_one_fills_a_gpu(batch: int, programs: int, count: int) -> None:
    plan = make_plan(batch, 196, 1000, CONFIGURATION)
    assert (plan.programs, plan.parts) == (programs, count)
    inputs, taps = batch * 2048 * 196 * 2 + 1000 * 2048 * 2, batch * count * 9 * 196 * 4
    assert taps <= 0.05 * inputs


def test_small_images_share_tiles_where_there_are_many() -> None:
    plan = make_plan(4096, 4, 10, CONFIGURATION)
    assert (plan.programs, plan.slots, plan.whole) == (256, 16, True)
