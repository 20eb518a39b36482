from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast import AbnFastError, create_model, from_published, to_published
from abn_fast.modules import AttentionBranchNetwork
from tests import _golden

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("abn_cifar_resnet8", {"num_classes": 3}),
    ("abn_cifar_resnet44", {"num_classes": 17}),
    ("abn_cifar_resnet50", {"num_classes": 10}),
    ("abn_cifar_resnet20", {"block": "bottleneck"}),
    ("abn_cifar_resnet44", {"block": "basic", "width": 4}),
    ("abn_cifar_resnet8", {"in_chans": 1, "width": 5}),
    ("abn_wide_resnet10_1", {"num_classes": 2}),
    ("abn_wide_resnet16_3", {"num_classes": 7}),
    ("abn_densenet_bc16_6", {"num_classes": 5}),
    ("abn_densenet_bc22_5", {"compression": 3}),
    ("abn_densenet_bc16_4", {"compression": 1}),
    ("abn_resnext11_2x4d", {"num_classes": 4}),
    ("abn_resnext20_4x64d", {"num_classes": 6}),
    ("abn_resnet18", {"num_classes": 5}),
    ("abn_resnet34", {"num_classes": 1000}),
    ("abn_resnet101", {"num_classes": 3}),
    ("abn_resnet", {"block": "basic", "layers": [1, 1, 1, 1], "num_classes": 6, "width": 8}),
    ("abn_resnet", {"block": "bottleneck", "layers": [1, 2, 1, 2], "num_classes": 4}),
    ("abn_se_resnet18", {"num_classes": 8}),
    ("abn_se_resnet152", {"num_classes": 3}),
    ("abn_se_resnet", {"block": "bottleneck", "layers": [1, 1, 2, 1], "num_classes": 9, "se_reduction": 8}),
]


def without_defaults(model: AttentionBranchNetwork) -> tuple[str, dict[str, Any]]:
    assert model.config is not None
    defaults = {"gate": "residual", "in_chans": 3}
    arguments = model.config.arguments
    return model.config.name, {key: value for key, value in arguments.items() if defaults.get(key) != value}


@pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)
def test_the_architecture_is_read_off_keys_and_shapes(name: str, arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = create_model(name, **arguments)
        assert isinstance(model, AttentionBranchNetwork)
        state = {key: torch.empty_like(value) for key, value in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        published = _renamed(model)
    rebuilt = from_published(published)
    expected = without_defaults(model)
    found = without_defaults(rebuilt)
    assert found[0] == expected[0]
    assert found[1] == expected[1] | {"num_classes": model.num_classes}


def _renamed(model: AttentionBranchNetwork) -> dict[str, Tensor]:
    """The published keys also of models that the published code could not build."""
    from abn_fast.checkpoints._layouts import LAYOUTS
    from abn_fast.models._registry import find_family

    assert model.config is not None
    template = find_family(model.config.name.removeprefix("abn_"))[0].template
    [layout] = [layout for layout in LAYOUTS if layout.family == template]
    return {layout.published_key(key): value for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "name", ["abn_cifar_resnet8", "abn_wide_resnet10_1", "abn_densenet_bc16_6", "abn_resnext11_1x64d"]
)
def test_there_and_back_again_gives_the_same_outputs(name: str) -> None:
    model = create_model(name, num_classes=4).eval()
    images = torch.randn(2, 3, 32, 32)
    rebuilt = from_published(to_published(model))
    for ours, theirs in zip(rebuilt(images), model(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


class Published(nn.Module):
    """A live module whose state dict has the published layout."""

    def __init__(self, state: dict[str, Tensor], drop_rate: float = 0.0) -> None:
        super().__init__()
        self.dropRate = drop_rate
        self.state = state

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.state


def test_a_live_module_gives_its_mode_dtype_and_dropout() -> None:
    state = to_published(create_model("abn_wide_resnet10_1").double(), prefix="")
    model = from_published(Published(state, drop_rate=0.3).train())
    assert model.training
    assert next(model.parameters()).dtype == torch.float64
    assert model.config is not None
    assert model.config.arguments["drop_rate"] == 0.3
    assert not from_published(Published(state).eval()).training


def test_the_weights_are_copies() -> None:
    source = to_published(create_model("abn_cifar_resnet8"), prefix="")
    before = source["fc.bias"].clone()
    model = from_published(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert torch.equal(source["fc.bias"], before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_compiled_and_parallel_prefixes_are_dropped() -> None:
    source = to_published(create_model("abn_cifar_resnet8", num_classes=4), prefix="")
    for prefix in ("module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."):
        assert from_published({prefix + key: value for key, value in source.items()}).num_classes == 4


def test_missing_batch_counters_count_as_zero() -> None:
    source = to_published(create_model("abn_cifar_resnet8"), prefix="")
    old = {key: value for key, value in source.items() if not key.endswith("num_batches_tracked")}
    model = from_published(old)
    counters = [value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")]
    assert len(counters) == len(source) - len(old)
    assert all(counter.item() == 0 for counter in counters)


def test_the_third_output_unpacks_as_in_the_published_imagenet_loop() -> None:
    state = to_published(create_model("abn_resnet", block="basic", layers=[1, 1, 1, 1], num_classes=4, width=64))
    images = torch.randn(2, 3, 64, 64)
    attention_logits, logits, [attention, features, gated] = from_published(state, return_features=True)(images)
    plain = from_published(state)(images)
    assert torch.equal(logits, plain.logits)
    assert torch.equal(attention_logits, plain.attention_logits)
    assert torch.equal(attention, plain.attention)
    torch.testing.assert_close(gated, features * attention + features)
    returning = from_published(state, return_features=True)
    assert to_published(returning).keys() == state.keys()


def test_the_resnext_norm_is_a_buffer_that_survives() -> None:
    name = "cifar100-resnext29_8x64d"
    weights = _golden.weights(_golden.case(name)["state_dict"])
    model = from_published(weights)
    assert not any("unused_bn1" in key for key, _ in model.named_parameters())
    published = to_published(model, prefix="")
    for key in ("bn_att.weight", "bn_att.bias", "bn_att.running_mean", "bn_att.running_var"):
        assert torch.equal(published[key], weights[key])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("abn_vgg16_cam", {}),
        ("resnet18", {}),
        ("abn_cifar_resnet8", {"gate": "product"}),
        ("abn_cifar_resnet8", {"in_chans": 1}),
        ("abn_cifar_resnet8", {"width": 8}),
        ("abn_cifar_resnet8", {"block": "bottleneck"}),
        ("abn_se_resnet18", {"se_reduction": 8}),
        ("abn_resnext11_2x4d", {}),
    ],
    ids=str,
)
def test_models_without_a_published_class_are_refused(name: str, arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = create_model(name, **arguments)
    with pytest.raises(AbnFastError, match="the published code has no class for") as refusal:
        to_published(model)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), "missing: fc.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda state: state.update({"fc.bias": torch.zeros(3)}), r"fc.bias \(3,\) instead of \(10,\)"),
        (lambda state: state.pop("att_conv.weight"), "not complete"),
        (lambda state: state.pop("att_layer3.0.conv1.weight"), "no published attention branch network"),
    ],
)
def test_other_keys_or_shapes_are_named(change: Any, message: str) -> None:
    state = to_published(create_model("abn_cifar_resnet8"), prefix="")
    change(state)
    with pytest.raises(AbnFastError, match=message) as refusal:
        from_published(state)
    assert "\n" not in str(refusal.value)
