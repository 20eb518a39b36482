import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.modules import AttentionHead, AttentionHeadOutput, LogMapAttentionHead
from tests.modules._plain_head import Head, PlainHead, make_head

KINDS = [AttentionHead, LogMapAttentionHead]
GATES: tuple[Gate, ...] = ("residual", "product")
Run = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def inputs(batch: int = 3, in_channels: int = 6, channels: int = 5, size: tuple[int, int] = (4, 5)) -> list[Tensor]:
    stage_output = torch.randn(batch, in_channels, *size, dtype=torch.float64) + 1
    features = torch.randn(batch, channels, *size, dtype=torch.float64)
    return [stage_output.requires_grad_(), features.requires_grad_()]


def step(head: nn.Module, batch: list[Tensor]) -> Run:
    """Outputs, gradients and buffers of one forward and backward; the parameters move."""
    head.zero_grad()
    outputs = head(*batch)
    generator = torch.Generator().manual_seed(1)
    loss = sum((o * torch.randn(o.shape, dtype=o.dtype, generator=generator)).sum() for o in outputs)
    d_inputs = torch.autograd.grad(loss, batch, retain_graph=True)
    loss.backward()
    run = {f"output {i}": o.detach() for i, o in enumerate(outputs)}
    run |= {f"gradient of input {i}": d for i, d in enumerate(d_inputs)}
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        run[f"gradient of {name}"] = parameter.grad.clone()
        parameter.data -= 0.1 * parameter.grad
    return run | {f"buffer {name}": buffer.clone() for name, buffer in head.named_buffers()}


def assert_same(ours: Run, expected: Run) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-9, msg=partial(_named, name))


def _named(name: str, message: str) -> str:
    return f"{name}: {message}"


def assert_same_steps(head: Head, plain: PlainHead, steps: int = 3) -> None:
    for _ in range(steps):
        batch = inputs()
        assert_same(step(head, batch), step(plain, batch))


@pytest.mark.parametrize("pre_norm", [True, False], ids=["bn1", "no bn1"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_are_those_of_the_written_out_chain(
    kind: type[Head], gate: Gate, pre_norm: bool
) -> None:
    head = make_head(kind, gate=gate, pre_norm=pre_norm)
    plain = PlainHead(head)
    assert_same_steps(head, plain)
    assert_same_steps(head.eval(), plain.eval())


@pytest.mark.parametrize("frozen", [["bn1"], ["bn2"], ["bn3"], ["bn1", "bn2"], ["bn2", "bn3"], ["bn1", "bn2", "bn3"]])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_may_be_frozen_one_by_one_while_the_rest_trains(kind: type[Head], frozen: list[str]) -> None:
    head = make_head(kind)
    plain = PlainHead(head)
    assert_same_steps(head, plain, steps=1)
    for name in set(frozen) & set(dict(head.named_children())):
        head.get_submodule(name).eval()
        plain.get_submodule(name).eval()
    assert_same_steps(head, plain, steps=2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_norm_without_momentum_keeps_the_cumulative_average(dtype: torch.dtype) -> None:
    head = make_head(AttentionHead).to(dtype)
    for norm in head.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    plain = PlainHead(head)
    with torch.no_grad():
        for _ in range(3):
            batch = [x.detach().to(dtype) for x in inputs()]
            head(*batch), plain(*batch)
    for name, expected in plain.named_buffers():
        torch.testing.assert_close(head.get_buffer(name), expected, msg=partial(_named, name))


@pytest.mark.parametrize("kind", KINDS)
def test_norms_without_running_statistics_use_the_batch_in_evaluation(kind: type[Head]) -> None:
    head = kind(6, 4).double()
    for name, layer in list(head.named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            setattr(head, name, nn.BatchNorm2d(layer.num_features, track_running_stats=False).double())
    assert_same_steps(head.eval(), PlainHead(head).eval(), steps=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (7, 2), (16, 16)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_any_map_size_works(kind: type[Head], size: tuple[int, int]) -> None:
    head = make_head(kind)
    plain = PlainHead(head)
    batch = inputs(size=size)
    assert_same(step(head, batch), step(plain, batch))


@pytest.mark.parametrize("num_classes", [1, 2, 100])
@pytest.mark.parametrize("batch", [1, 4])
def test_any_class_count_and_batch_size_work(num_classes: int, batch: int) -> None:
    head = make_head(AttentionHead, num_classes=num_classes)
    plain = PlainHead(head)
    batch_inputs = inputs(batch)
    assert_same(step(head, batch_inputs), step(plain, batch_inputs))


def test_the_output_is_named_and_in_order() -> None:
    head = AttentionHead(6, 4)
    output = head(torch.randn(2, 6, 3, 5), torch.randn(2, 7, 3, 5))
    assert isinstance(output, AttentionHeadOutput)
    assert output._fields == ("attention_logits", "gated", "attention")
    assert [tuple(o.shape) for o in output] == [(2, 4), (2, 7, 3, 5), (2, 1, 3, 5)]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maps", [1, 3], ids=["one map", "a map an image"])
def test_a_given_map_replaces_the_own_one(kind: type[Head], gate: Gate, maps: int) -> None:
    head = make_head(kind, gate=gate).eval()
    stage_output, features = inputs(batch=3)
    given = torch.rand(maps, 1, 4, 5, dtype=torch.float64)
    output = head(stage_output, features, given)
    expected = features * (1 + given) if gate == "residual" else features * given
    torch.testing.assert_close(output.gated, expected)
    torch.testing.assert_close(output.attention, given.expand(3, 1, 4, 5))
    torch.testing.assert_close(output.attention_logits, head(stage_output, features).attention_logits)


@pytest.mark.parametrize("shape", [(3, 1, 4, 6), (3, 1, 5, 5), (2, 1, 4, 5), (3, 2, 4, 5), (1, 4, 5), (4, 5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_given_map_of_another_size_is_refused_in_one_line(kind: type[Head], shape: tuple[int, ...]) -> None:
    head = make_head(kind)
    with pytest.raises(AbnFastError, match=r"4, 5") as error:
        head(*inputs(batch=3), torch.rand(shape, dtype=torch.float64))
    assert str(shape) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_gate_is_refused_with_the_known_ones(kind: type[Head]) -> None:
    gate: Any = "sum"
    with pytest.raises(AbnFastError, match=r"'sum'.*'residual'.*'product'"):
        kind(6, 4, gate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_that_changes_the_resolution_is_refused(kind: type[Head]) -> None:
    with pytest.raises(AbnFastError, match=r"\(8, 6\).*\(4, 3\).*stride") as error:
        kind(6, 4)(torch.randn(2, 6, 4, 3), torch.randn(2, 5, 8, 6))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_nothing_but_running_statistics_is_kept_on_the_modules(kind: type[Head], training: bool) -> None:
    head = make_head(kind).train(training)
    before = {name: set(vars(module)) for name, module in head.named_modules()}
    head(*inputs())
    for name, module in head.named_modules():
        assert set(vars(module)) == before[name]
        assert not any(isinstance(value, Tensor) for value in vars(module).values())
        assert all(buffer.grad_fn is None for buffer in module.buffers())


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_independent_and_equal(kind: type[Head]) -> None:
    head = make_head(kind)
    twin = copy.deepcopy(head)
    batch = inputs()
    first = step(head, batch)
    assert_same(step(twin, batch), first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_dict_carries_everything(kind: type[Head]) -> None:
    head, fresh = make_head(kind), kind(6, 4).double()
    step(head, inputs())
    fresh.load_state_dict(head.state_dict())
    batch = inputs()
    assert_same(step(fresh.eval(), batch), step(head.eval(), batch))


@pytest.mark.parametrize("kind", KINDS)
def test_reset_classes_makes_fresh_layers_and_keeps_bn1(kind: type[Head]) -> None:
    head = make_head(kind)
    step(head, inputs())
    bn1 = {key: value.clone() for key, value in head.bn1.state_dict().items()}  # type: ignore[union-attr]  # present
    keys = list(head.state_dict())
    new = head.reset_classes(9)
    assert list(head.state_dict()) == keys
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float64}
    assert set(new) == {layer for name, layer in head.named_children() if name not in ("bn1", "bn3")}
    for key, value in head.bn1.state_dict().items():  # type: ignore[union-attr]  # present
        assert torch.equal(value, bn1[key])
    output = head(*inputs())
    assert output.attention_logits.shape == (3, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_classes_in_evaluation_leaves_the_head_in_evaluation(kind: type[Head]) -> None:
    head = make_head(kind).eval()
    head.reset_classes(9)
    assert not any(module.training for module in head.modules())


def test_reset_classes_leaves_the_dtype_of_the_norms_alone() -> None:
    head = AttentionHead(6, 4).to(torch.bfloat16)
    kept = [head.get_submodule(name).float() for name in ("bn1", "bn3")]
    head.reset_classes(9)
    assert [parameter.dtype for norm in kept for parameter in norm.parameters()] == [torch.float32] * 4
    assert head.class_conv.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_head_runs_on_the_meta_device(training: bool) -> None:
    head = AttentionHead(6, 4).to("meta").train(training)
    output = head(torch.randn(2, 6, 3, 5, device="meta"), torch.randn(2, 7, 3, 5, device="meta"))
    assert output.gated.shape == (2, 7, 3, 5)
