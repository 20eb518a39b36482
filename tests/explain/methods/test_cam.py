from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import create_model
from abn_fast._errors import AbnFastError
from abn_fast.explain import explain, methods_of
from tests.explain.methods._networks import CLASSES, fully_connected, logits_of, network, pooled_by, shown

KINDS = ["abn-cifar_resnet8", "abn-densenet_bc10_4", "abn-vgg11_cam", "plain-wide_resnet10_1", "plain-se_resnet-basic"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_sums_the_features_with_the_weights_of_the_class(kind: str) -> None:
    model, images = network(kind)
    features, linear = pooled_by(model, images), model.get_classifier()
    logits = features.mean((2, 3)) @ linear.weight.T + linear.bias
    torch.testing.assert_close(logits, logits_of(model, images))
    targets = torch.tensor([2, 0, 1, 1])
    maps = torch.stack(
        [sum(linear.weight[y, c] * x[c] for c in range(len(x))) for y, x in zip(targets, features, strict=True)]
    )
    torch.testing.assert_close(
        explain(model, images, targets, method="cam"), shown(maps.detach(), images.shape[2:]).float()
    )


@pytest.mark.parametrize("kind", ["tasks-densenet", "tasks-resnet", "tasks-plain"])
def test_a_task_has_the_map_of_its_answer(kind: str) -> None:
    model, images = network(kind)
    weight = model.get_classifier().tasks.weight.detach()
    answers = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    maps = explain(model, images, answers, method="cam")
    assert maps.shape == (4, 3, 30, 34)
    for image in range(4):
        for task in range(3):
            features = task_features(model, images[image : image + 1], task)
            expected = torch.einsum("c,nchw->nhw", weight[task, answers[image, task]], features)
            torch.testing.assert_close(maps[image, task], shown(expected, (30, 34))[0].float())


def task_features(model: Any, image: torch.Tensor, task: int) -> torch.Tensor:
    """The last features of one image gated by the map of one task."""
    with torch.no_grad():
        features = model.extractor(image)
        if hasattr(model, "attention_branch"):
            features = features * (1 + model.attention_branch(features).sigmoid()[:, task : task + 1])
        output: torch.Tensor = model.perception_branch.stage(features)
        bn = getattr(model.perception_branch.pool, "bn", None)
    return output if bn is None else bn(output).relu().detach()


def test_the_relu_that_torchvision_applies_to_densenets_last_norm_belongs_to_the_features() -> None:
    pytest.importorskip("torchvision")
    model: Any = create_model("torchvision:densenet121", num_classes=CLASSES).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(images)
    assert (features < 0).any()
    linear = model.get_classifier()
    maps = torch.einsum("c,nchw->nhw", linear.weight[1].detach(), features.relu())
    target = torch.ones(2, dtype=torch.int64)
    torch.testing.assert_close(
        explain(model, images, target, method="cam"), shown(maps, (64, 64)), rtol=1e-4, atol=1e-5
    )


def test_a_classifier_of_several_layers_is_refused() -> None:
    model = fully_connected()
    assert methods_of(model) == ("gradcam", "gradcam++")
    with pytest.raises(
        AbnFastError, match=r"global average pooling and one linear layer.*gradcam, gradcam\+\+ can serve"
    ):
        explain(model, torch.randn(1, 3, 20, 20), method="cam")


@pytest.mark.parametrize("pool", [nn.AdaptiveMaxPool2d(1), nn.LPPool2d(2, (3, 2))])
def test_other_pooling_is_refused(pool: nn.Module) -> None:
    model, _ = network("plain-cifar_resnet8")
    assert "cam" in methods_of(model)
    model.perception_branch.pool = nn.Sequential(pool, nn.Flatten())
    assert "cam" not in methods_of(model)


def test_a_norm_between_pooling_and_classifier_is_refused() -> None:
    pytest.importorskip("timm")
    model = create_model("timm:convnext_atto", num_classes=CLASSES).eval()
    assert methods_of(model) == ("gradcam", "gradcam++")
