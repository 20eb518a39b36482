from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.explain import METHODS, explain, explain_each, methods_of
from tests.explain.methods._networks import network

TARGETS = torch.tensor([2, 0, 1, 1])


@pytest.fixture
def abn() -> tuple[Any, Tensor]:
    model, images = network("abn-cifar_resnet8")
    nn.init.constant_(model.attention_branch.head.bn2.bias, 1.0)
    return model, images


def test_the_methods_have_the_agreed_names() -> None:
    assert tuple(METHODS) == ("abn", "class-evidence", "cam", "gradcam", "gradcam++")


@pytest.mark.parametrize(
    ("kind", "methods"),
    [
        ("abn-se_resnet-basic", ("abn", "class-evidence", "cam", "gradcam", "gradcam++")),
        ("plain-cifar_resnet8", ("cam", "gradcam", "gradcam++")),
        ("tasks-cifar_resnet", ("abn", "cam", "gradcam", "gradcam++")),
        ("tasks-plain", ("cam", "gradcam", "gradcam++")),
    ],
)
def test_a_model_is_served_by_what_it_has(kind: str, methods: tuple[str, ...]) -> None:
    model, images = network(kind)
    assert methods_of(model) == methods
    for method in METHODS:
        if method not in methods:
            with pytest.raises(
                AbnFastError, match=f"{method}.*; {', '.join(methods[:2])}.* can serve this one"
            ) as error:
                explain(model, images, method=method)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_maps_are_float32_in_the_unit_range_at_image_size(abn: tuple[Any, Tensor], method: str, mode: Any) -> None:
    model, images = abn
    maps = explain(model, images, method=method, mode=mode)
    assert (maps.dtype, maps.shape) == (torch.float32, (4, 30, 34))
    assert (maps >= 0).all()
    assert (maps <= 1).all()
    if method != "abn":
        assert (maps.amax((1, 2)) == 1).all()


def test_the_mode_is_how_maps_are_resampled(abn: tuple[Any, Tensor]) -> None:
    model, images = abn
    with torch.no_grad():
        attention = model(images).attention
    for mode in ("nearest-exact", "bicubic"):
        expected = F.interpolate(attention, (30, 34), mode=mode, antialias=mode == "bicubic")[:, 0].clamp(0, 1)
        given: Any = mode.removesuffix("-exact")
        torch.testing.assert_close(explain(model, images, mode=given), expected.float())


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_different_targets_is_explained_as_one_by_one(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    together = explain(model, images, TARGETS, method=method)
    alone = torch.cat(
        [explain(model, images[i : i + 1], TARGETS[i : i + 1], method=method) for i in range(len(images))]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    other = explain(model, images, (TARGETS + 1) % 3, method=method)
    assert torch.equal(other, together) == (method == "abn")


@pytest.mark.parametrize("method", METHODS)
def test_by_default_the_prediction_is_explained(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    with torch.no_grad():
        predicted = model(images).logits.argmax(1)
    assert torch.equal(explain(model, images, method=method), explain(model, images, predicted, method=method))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    expected = explain(model, images, TARGETS, method=method)
    model.train()
    model.extractor.eval()
    modes = [module.training for module in model.modules()]
    weights = list(model.parameters())
    weights[0].grad = torch.ones_like(weights[0])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    assert torch.equal(explain(model, images, TARGETS, method=method), expected)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(weights[0].grad, torch.ones_like(weights[0]))
    assert all(weight.grad is None for weight in weights[1:])
    assert all(weight.requires_grad for weight in weights)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_had_where_the_caller_wants_none(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    expected = explain(model, images, method=method)
    assert not expected.requires_grad
    with torch.no_grad():
        assert torch.equal(explain(model, images, method=method), expected)
    with torch.inference_mode():
        assert torch.equal(explain(model, images.clone(), method=method), expected)
    model.requires_grad_(False)
    assert torch.equal(explain(model, images, method=method), expected)


@pytest.mark.parametrize("method", METHODS)
def test_images_are_taken_in_the_dtype_of_the_model(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    exact = explain(model, images, TARGETS, method=method)
    rounded = explain(model.bfloat16(), images, TARGETS, method=method)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05


@pytest.mark.parametrize("method", ["class-evidence", "cam", "gradcam", "gradcam++"])
def test_a_map_of_nothing_is_0(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    nn.init.constant_(model.attention_branch.head.bn2.weight, 0.0)
    nn.init.constant_(model.attention_branch.head.bn2.bias, -1.0)
    nn.init.constant_(model.get_classifier().weight, -1.0)
    assert torch.equal(explain(model, images, method=method), torch.zeros(4, 30, 34))


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_passes_the_network_before_its_last_features(abn: tuple[Any, Tensor], method: str) -> None:
    model, images = abn
    recorded: list[bool] = []
    model.perception_branch.stage.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    explain(model, images, method=method)
    assert not any(recorded)


@pytest.mark.parametrize("kind", ["abn-densenet_bc10_4", "tasks-cifar_resnet"])
def test_several_methods_share_one_forward_pass(kind: str) -> None:
    model, images = network(kind)
    calls: list[str] = []
    for name in ("extractor", "attention_branch.stage", "perception_branch.stage"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    explained = explain_each(model, images, methods_of(model))
    chunks = 3 if kind.startswith("tasks") else 1  # one task at a time
    assert sorted(calls) == ["attention_branch.stage", "extractor"] + chunks * ["perception_branch.stage"]
    with torch.no_grad():
        logits = model(images).logits
    torch.testing.assert_close(explained.logits, logits)
    assert torch.equal(explained.targets, logits.argmax(-1))
    for method, maps in explained.maps.items():
        torch.testing.assert_close(maps, explain(model, images, method=method))


def test_maps_of_another_size_are_resampled_from_the_features(abn: tuple[Any, Tensor]) -> None:
    model, images = abn
    with torch.no_grad():
        attention = model(images).attention
    maps = explain_each(model, images, ["abn"], size=(70, 90)).maps["abn"]
    torch.testing.assert_close(maps, F.interpolate(attention, (70, 90), mode="bilinear")[:, 0].float())


@pytest.mark.parametrize("task_chunk", [None, 2])
def test_tasks_are_explained_alike_in_chunks(task_chunk: int | None) -> None:
    model, images = network("tasks-resnet")
    model.task_chunk = task_chunk
    alone = [explain(model, images[i : i + 1], method="gradcam")[0] for i in range(4)]
    torch.testing.assert_close(explain(model, images, method="gradcam"), torch.stack(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        (
            "abn-product",
            torch.zeros(3, dtype=torch.int64),
            r"torch.int64 \[3\]: expected torch.int64 \[4\]",
        ),
        ("abn-product", torch.zeros(4), r"targets are torch.float32 \[4\]: expected torch.int64 \[4\]"),
        ("abn-product", torch.tensor([0, 1, 2, 3]), r"targets in \[0, 3\]: expected 0 to 2"),
        ("abn-product", torch.tensor([0, 1, 2, -1]), r"targets in \[-1, 2\]: expected 0 to 2"),
        ("tasks-cifar_resnet", torch.zeros(4, dtype=torch.int64), r"expected torch.int64 \[4, 3\]"),
        ("tasks-cifar_resnet", torch.full((4, 3), 2), r"targets in \[2, 2\]: expected 0 to 1"),
    ],
)
def test_targets_that_do_not_fit_are_refused(kind: str, targets: Tensor, message: str) -> None:
    model, images = network(kind)
    for method in ("abn", "gradcam"):
        with pytest.raises(AbnFastError, match=message):
            explain(model, images, targets, method=method)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 20, 20), torch.zeros(0, 3, 20, 20), torch.zeros(1, 3, 20, 20, dtype=torch.uint8)]
)
def test_images_that_are_none_are_refused(abn: tuple[Any, Tensor], images: Tensor) -> None:
    with pytest.raises(AbnFastError, match=r"expected floating point \[N, 3, H, W\]"):
        explain(abn[0], images)


def test_an_unknown_method_or_mode_is_refused(abn: tuple[Any, Tensor]) -> None:
    model, images = abn
    with pytest.raises(AbnFastError, match="method='lime'; expected one of 'abn', 'class-evidence'"):
        explain(model, images, method="lime")
    with pytest.raises(AbnFastError, match="mode 'lanczos'"):
        explain(model, images, mode="lanczos")  # type: ignore[arg-type]  # what is tested


def test_a_model_from_elsewhere_is_told_how_to_come_in() -> None:
    with pytest.raises(AbnFastError, match=r"Flatten is not a network of abn_fast: make one with create_model"):
        explain(nn.Flatten(), torch.zeros(1, 3, 8, 8))


def test_damaged_weights_are_named(abn: tuple[Any, Tensor]) -> None:
    model, images = abn
    nn.init.constant_(model.extractor.conv1.weight, torch.nan)
    with pytest.raises(AbnFastError, match="NaN"):
        explain(model, images)
