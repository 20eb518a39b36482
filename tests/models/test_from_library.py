import sys

import pytest
import torch
from torch.testing import assert_close

from abn_fast import AbnFastError, AttentionBranchNetwork, Classifier, create_model
from abn_fast.models._from_backbone import from_backbone

timm = pytest.importorskip("timm")

NAMES = ["timm:test_resnet", "torchvision:mnasnet0_5", "abn_timm:test_convnext", "abn_torchvision:mnasnet0_5"]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_name_builds_a_network_whose_config_builds_it_again(name: str) -> None:
    network = create_model(name, num_classes=5).eval()
    assert isinstance(network, AttentionBranchNetwork if name.startswith("abn_") else Classifier)
    assert network.config is not None
    assert network.config.name == name
    assert network.config.arguments["num_classes"] == 5
    assert "pretrained" not in network.config.arguments
    again = create_model(network.config.name, **network.config.arguments).eval()
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 64, 96)
    assert_close(again(x), network(x))


def test_the_plain_network_is_the_librarys_model() -> None:
    torch.manual_seed(3)
    network = create_model("timm:test_resnet", num_classes=5).eval()
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=5).eval()
    x = torch.randn(2, 3, 64, 96)
    assert_close(network(x), model(x))
    assert isinstance(network, Classifier)
    assert_close(network.forward_features(x), model.forward_features(x))


def test_the_config_follows_the_gate_the_channels_and_the_librarys_arguments() -> None:
    network = create_model("abn_timm:test_resnet", num_classes=5, in_chans=1, gate="product", drop_rate=0.2)
    assert network.config is not None
    assert network.config.arguments == {"num_classes": 5, "in_chans": 1, "gate": "product", "drop_rate": 0.2}
    network.reset_classifier(3)
    assert network.config.arguments["num_classes"] == 3
    assert network.eval()(torch.randn(2, 1, 64, 64)).logits.shape == (2, 3)


def test_the_librarys_number_of_classes_is_the_default() -> None:
    network = create_model("abn_timm:test_resnet")
    assert network.config is not None
    assert network.num_classes == network.config.arguments["num_classes"] == 1000


def test_a_fresh_attention_stage_by_name() -> None:
    network = create_model("abn_timm:test_resnet", num_classes=5, attention_stage="fresh")
    assert isinstance(network, AttentionBranchNetwork)
    key = "layer4.0.conv1.weight"
    fresh, last = (branch.stage.get_parameter(key) for branch in (network.attention_branch, network.perception_branch))
    assert not torch.equal(fresh, last)


@torch.no_grad()
def test_the_config_of_a_converted_timm_model_builds_its_like() -> None:
    network = from_backbone(timm.create_model("test_resnet", num_classes=9, in_chans=1).eval(), 4, gate="product")
    assert network.config is not None
    assert network.config.name == "abn_timm:test_resnet"
    assert network.config.arguments == {"num_classes": 4, "in_chans": 1, "gate": "product"}
    again = create_model(network.config.name, **network.config.arguments).eval()
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, 1, 64, 64)
    assert_close(again(x), network(x))


@pytest.mark.parametrize(
    "arguments", [{"output_stride": 16}, {"act_layer": "silu"}, {"block_args": {"attn_layer": "se"}}]
)
def test_a_timm_model_that_its_name_does_not_rebuild_gets_no_config(arguments: dict[str, object]) -> None:
    assert from_backbone(timm.create_model("test_resnet", num_classes=3, **arguments)).config is None


def test_a_model_of_another_drop_rate_is_recognised() -> None:
    model = timm.create_model("test_convnext", num_classes=3, drop_rate=0.3, drop_path_rate=0.2)
    assert from_backbone(model).config is not None


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("abn_timm:resnet19", {}, "timm has no model 'resnet19'; did you mean .*resnet18"),
        ("torchvision:resnet19", {}, "torchvision has no model 'resnet19'; did you mean .*resnet18"),
        ("timm:zzzzqqqq", {}, "timm has no model 'zzzzqqqq'"),
        ("torchvision:fcn_resnet50", {}, "torchvision has no model"),
        ("keras:resnet50", {}, "library='keras'; expected one of 'timm', 'torchvision'"),
        ("timm:test_resnet", {"colour": 1}, "timm:test_resnet cannot be built: .*colour"),
        ("timm:test_resnet", {"gate": "product"}, "plain classifier without gate='product'"),
        ("timm:test_resnet", {"attention_stage": "copy"}, "plain classifier without attention_stage"),
        ("abn_timm:test_resnet", {"attention_stage": "old"}, "attention_stage='old'"),
        ("abn_timm:test_resnet", {"gate": "sum"}, "gate='sum'"),
        ("abn_timm:test_resnet", {"num_classes": 0}, "num_classes=0"),
        ("abn_timm:test_vit", {}, "VisionTransformer cannot become an attention branch network"),
        ("torchvision:resnet18", {"in_chans": 1}, "takes 3 channels only"),
    ],
)
def test_a_bad_request_is_told_in_one_line(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_timm_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(AbnFastError, match=r"timm:resnet18 needs 'timm'.*abn-fast\[timm\]"):
        create_model("abn_timm:resnet18")


def test_pretrained_weights_that_cannot_be_fetched_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(AbnFastError, match=r"timm:resnet18 cannot be built: no network$"):
        create_model("abn_timm:resnet18", pretrained=True)
