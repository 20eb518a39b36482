"""Weights of other libraries' networks put into ours; nothing is downloaded."""

import pytest
import torch
import torchvision.models as peers
from torch import nn

from abn_fast import AbnFastError, AttentionBranchNetwork, create_model
from abn_fast.models import load_pretrained


def source(name: str = "resnet18", classes: int = 7) -> nn.Module:
    torch.manual_seed(1)
    network: nn.Module = getattr(peers, name)(num_classes=classes)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network.eval()


def test_a_plain_network_computes_what_its_source_does() -> None:
    model, given = create_model("resnet18", num_classes=7).eval(), source()
    assert load_pretrained(model, given) == []
    images = torch.randn(2, 3, 64, 70)
    with torch.no_grad():
        torch.testing.assert_close(model(images), given(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["abn_resnet18", "multi_task_abn_resnet18"])
def test_trunk_last_stage_and_attention_stage_are_filled(name: str) -> None:
    model, given = create_model(name, num_classes=3), source()
    kept = load_pretrained(model, given)
    state, theirs = model.state_dict(), given.state_dict()
    assert torch.equal(state["extractor.layer3.1.conv2.weight"], theirs["layer3.1.conv2.weight"])
    assert torch.equal(state["perception_branch.stage.1.bn2.running_var"], theirs["layer4.1.bn2.running_var"])
    assert torch.equal(state["attention_branch.stage.1.conv2.weight"], theirs["layer4.1.conv2.weight"])
    assert kept
    assert all(key.startswith(("perception_branch.classifier", "attention_branch")) for key in kept)
    assert not any(key.startswith("attention_branch.stage") for key in kept)


def test_timms_network_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    given = timm.create_model("resnet18", pretrained=False, num_classes=7).eval()
    asked: list[object] = []

    def create(name: str, pretrained: bool) -> nn.Module:
        asked.append(pretrained)
        return given  # type: ignore[no-any-return]  # timm is untyped

    monkeypatch.setattr(timm, "create_model", create)
    model = create_model("resnet18", num_classes=7).eval()
    assert load_pretrained(model) == []
    assert asked == [True]
    images = torch.randn(2, 3, 64, 70)
    with torch.no_grad():
        torch.testing.assert_close(model(images), given(images), rtol=1e-4, atol=1e-4)


def test_timms_vgg_fills_the_linear_layers_too() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = create_model("abn_vgg16_bn", num_classes=3)
        kept = load_pretrained(model, timm.create_model("vgg16_bn", pretrained=False))
    assert [key for key in kept if key.startswith("perception_branch")] == [
        "perception_branch.classifier.6.weight",
        "perception_branch.classifier.6.bias",
    ]


def test_vgg_fills_up_to_its_last_layer() -> None:
    model = create_model("abn_vgg11_bn", num_classes=3)
    kept = load_pretrained(model, source("vgg11_bn"))
    assert isinstance(model, AttentionBranchNetwork)
    assert [key for key in kept if key.startswith("perception_branch")] == [
        "perception_branch.classifier.6.weight",
        "perception_branch.classifier.6.bias",
    ]


def test_another_network_is_refused_and_changes_nothing() -> None:
    model = create_model("abn_resnet18", num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(AbnFastError, match="ResNet is not the network of this model") as error:
        load_pretrained(model, source("resnet50"))
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_family_without_weights_says_what_has_some() -> None:
    with pytest.raises(AbnFastError, match="no pretrained weights for cifar_resnet8"):
        load_pretrained(create_model("abn_cifar_resnet8"))
