import json
from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import AbnFastError, AttentionBranchNetwork, create_model
from abn_fast.models._blocks import BasicBlock, Bottleneck, SqueezeExcitation


@pytest.fixture(autouse=True)
def _on_meta() -> Any:
    with torch.device("meta"):
        yield


def assert_refused(match: str, name: str, **arguments: Any) -> None:
    with pytest.raises(AbnFastError, match=match) as error:
        create_model(name, **arguments)
    assert "\n" not in str(error.value)


def blocks(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize("depth", [8, 14, 38, 44, 62, 164])
def test_any_cifar_resnet_depth_of_6n_plus_2_builds(depth: int) -> None:
    kind = Bottleneck if depth >= 44 else BasicBlock
    assert blocks(create_model(f"cifar_resnet{depth}"), kind) == 3 * (depth - 2) // 6
    assert blocks(create_model(f"abn_cifar_resnet{depth}"), kind) == 4 * (depth - 2) // 6


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [("wide_resnet22_3", 22 - 3), ("densenet_bc22_5", 22 - 1), ("resnext20_3x8d", 20 - 1)],
)
def test_the_depth_counts_convolutions_and_one_more_layer(name: str, convolutions: int) -> None:
    # the one more is the classifier; in a Wide ResNet it is the three shortcuts instead
    model = create_model(name)
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert sum("shortcut" not in n and "downsample" not in n for n in names) == convolutions


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar_resnet21", "cifar_resnet has no depth 21.*6n . 2.* 20 or 26"),
        ("cifar_resnet0", "depth.*0"),
        ("cifar_resnet2", "no depth 2.* 8 or 14"),
        ("abn_cifar_resnet111", "no depth 111.* 110 or 116"),
        ("wide_resnet27_10", "wide_resnet has no depth 27.* 22 or 28"),
        ("densenet_bc101_12", "densenet_bc has no depth 101.* 100 or 106"),
        ("resnext30_8x64d", "resnext has no depth 30.* 29 or 38"),
        ("resnet51", "depth=51.*18, 34, 50, 101, 152"),
        ("se_resnet20", "depth=20.*18, 34, 50, 101, 152"),
        ("vgg15_bn_cam", "depth=15.*11, 13, 16, 19"),
    ],
)
def test_a_depth_that_a_family_does_not_have_is_answered_with_those_it_has(name: str, message: str) -> None:
    assert_refused(message, name)


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet", "wide_resnet", "densenet_bc", "resnext", "resnet", "se_resnet", "vgg", "vgg_bn", "abn_vgg_cam"],
)
def test_a_name_without_its_numbers_says_what_is_missing(name: str) -> None:
    assert_refused("depth", name)


@pytest.mark.parametrize("name", ["wide_resnet16_0", "densenet_bc40_0", "resnext29_0x64d", "resnext29_8x0d"])
def test_a_number_of_0_is_refused(name: str) -> None:
    assert_refused("0", name)


@pytest.mark.parametrize("value", [0, -1, True, "ten", 2.5, None])
@pytest.mark.parametrize("argument", ["num_classes", "in_chans"])
@pytest.mark.parametrize("name", ["abn_resnet18", "resnet18"])
def test_class_and_channel_counts_are_whole_numbers_of_at_least_1(name: str, argument: str, value: Any) -> None:
    assert_refused(f"{argument}={value!r}.*whole number", name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifar_resnet20", {"width": 0}, "width=0"),
        ("cifar_resnet20", {"width": "wide"}, "width='wide'"),
        ("resnet18", {"width": -1}, "width=-1"),
        ("cifar_resnet20", {"block": "preact"}, "block='preact'.*'basic', 'bottleneck'"),
        ("densenet_bc40_12", {"compression": 0}, "compression=0"),
        ("se_resnet18", {"se_reduction": 0}, "se_reduction=0"),
        ("wide_resnet16_1", {"drop_rate": 2.0}, "drop_rate=2.0"),
        ("wide_resnet16_1", {"drop_rate": "half"}, "drop_rate='half'"),
        ("densenet_bc40_12", {"drop_rate": -0.1}, "drop_rate=-0.1"),
        ("vgg16", {"drop_rate": 2.0}, "drop_rate=2.0"),
        ("cifar_resnet", {"depth": "deep"}, "'deep'"),
        ("resnet", {"block": "basic", "layers": [2, 2, 2]}, "four layers"),
        ("resnet", {"block": "basic", "layers": [2, 2, 2, 0]}, "layers=0"),
        ("resnet", {"block": "basic", "layers": 8}, "layers"),
        ("resnet", {"layers": [2, 2, 2, 2]}, "block"),
        ("resnet50", {"layers": [2, 2, 2, 2]}, "depth 50 fixes"),
        ("resnet50", {"block": "basic"}, "depth 50 fixes"),
    ],
)
def test_a_value_that_a_family_does_not_take_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    assert_refused(message, f"abn_{name}", **arguments)


def test_squeeze_and_excitation_never_squeezes_to_nothing() -> None:
    model = create_model("se_resnet18", width=4)
    assert min(m.fc1.out_features for m in model.modules() if isinstance(m, SqueezeExcitation)) >= 1


@pytest.mark.parametrize("argument", ["drop_rate", "pretrained", "depth_", "Width"])
def test_an_unknown_argument_is_answered_with_the_known_ones(argument: str) -> None:
    assert_refused(
        f"abn_resnet50 takes no argument '{argument}'.*num_classes, in_chans", "abn_resnet50", **{argument: 1}
    )


def test_a_number_stated_twice_is_refused() -> None:
    assert_refused("resnet50 states 'depth' already", "resnet50", depth=50)
    assert_refused("'cardinality'", "abn_resnext29_8x64d", cardinality=8)


@pytest.mark.parametrize("gate", ["sum", "Residual", "", 1])
def test_an_unknown_gate_is_refused(gate: Any) -> None:
    assert_refused(r"gate=.*'residual', 'product'", "abn_resnet18", gate=gate)


def test_a_plain_network_has_no_gate() -> None:
    assert_refused("plain classifier.*abn_resnet18", "resnet18", gate="product")


def test_the_gate_is_residual_unless_stated_otherwise() -> None:
    for model, gate in (
        (create_model("abn_resnet18"), "residual"),
        (create_model("abn_resnet18", gate="product"), "product"),
    ):
        assert isinstance(model, AttentionBranchNetwork)
        assert model.attention_branch.head.gate == gate


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("abn_resnet18", {}),
        ("resnet18", {"num_classes": 7}),
        ("abn_wide_resnet10_1", {"drop_rate": 0.3, "gate": "product", "in_chans": 1}),
        ("abn_resnet", {"block": "basic", "layers": [1, 2, 1, 1], "width": 8}),
        ("cifar_resnet", {"depth": 20}),
    ],
)
def test_the_configuration_is_json_and_rebuilds_the_network(name: str, arguments: dict[str, Any]) -> None:
    model = create_model(name, **arguments)
    assert model.config is not None
    assert model.config.name == name
    assert model.config.arguments["num_classes"] == model.num_classes
    restored = json.loads(json.dumps(model.config.arguments))
    again = create_model(model.config.name, **restored)
    assert again.config == model.config
    assert str(again) == str(model)


def test_the_class_count_follows_the_data_the_paper_uses() -> None:
    assert (create_model("resnet18").num_classes, create_model("cifar_resnet20").num_classes) == (1000, 10)
