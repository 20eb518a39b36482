import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision import models

from abn_fast import AbnFastError
from abn_fast.models._from_backbone import from_backbone

CUT_BEHIND = {
    "resnet18": "layer3",
    "resnext50_32x4d": "layer3",
    "wide_resnet50_2": "layer3",
    "densenet121": "features.transition3",
    "mobilenet_v2": "features.13",
    "mobilenet_v3_small": "features.8",
    "efficientnet_b0": "features.5",
    "shufflenet_v2_x0_5": "stage3",
    "alexnet": "features.5",
    "vgg16": "features.23",
    "vgg16_bn": "features.33",
    "convnext_tiny": "features.6.0",
    "mnasnet0_5": "layers.11",
}
REFUSED = {
    "googlenet": "differs between training and evaluation",
    "inception_v3": "differs between training and evaluation",
    "squeezenet1_1": "no classifier module comes last",
    "swin_t": r"into \(7, 7\) even with stride 1",
    "vit_b_16": "does not take images of 288x320",
    "maxvit_t": "does not take images of 288x320",
}


def on_meta(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        model: nn.Module = models.get_model(name, num_classes=7, **options)
    return model


@pytest.mark.parametrize(("name", "end"), CUT_BEHIND.items())
def test_an_architecture_becomes_an_attention_branch_network(name: str, end: str) -> None:
    network = from_backbone(on_meta(name)).eval()
    *_, last = [node for node in network.extractor.graph.nodes if node.op == "call_module"]  # type: ignore[union-attr]
    assert last.target == end
    for height, width in ((192, 192), (160, 256)):
        images = torch.empty(2, 3, height, width, device="meta")
        features, output = network.extractor(images), network(images)
        assert output.logits.shape == output.attention_logits.shape == (2, 7)
        assert output.attention.shape == (2, 1, *features.shape[-2:])


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_an_architecture_that_cannot_be_cut_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(AbnFastError, match=f"cannot become an attention branch network: .*{reason}"):
        from_backbone(on_meta(name))


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5", "mnasnet0_5"]
)
@torch.no_grad()
def test_a_map_of_zeros_gives_the_models_own_logits_and_another_map_does_not(name: str) -> None:
    model, x = models.get_model(name, num_classes=7).eval(), torch.randn(2, 3, 96, 128)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
    model(x)
    model.eval()
    network = from_backbone(model)
    expected, size = model(x), network.extractor(x).shape[-2:]
    assert_close(network(x, attention=torch.zeros(1, 1, *size)).logits, expected, rtol=1e-5, atol=1e-5)
    assert (network(x, attention=torch.rand(1, 1, *size)).logits - expected).abs().max() > 1e-3 * expected.abs().max()


def test_the_classifier_can_be_replaced_and_reset() -> None:
    network = from_backbone(models.mobilenet_v2(num_classes=7), num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    assert network(x).logits.shape == (2, 4)
    network.reset_classifier(3)
    assert network(x).logits.shape == network(x).attention_logits.shape == (2, 3)


def test_a_fresh_attention_stage_differs_from_the_last_stage() -> None:
    network = from_backbone(models.resnet18(), attention_stage="fresh")
    copied = dict(network.perception_branch.stage.named_parameters())
    for key, weight in network.attention_branch.stage.named_parameters():
        assert weight.ndim == 1 or not torch.equal(weight, copied[key]), key
