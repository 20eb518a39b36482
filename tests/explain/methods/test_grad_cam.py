from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast.explain import explain
from tests.explain.methods._networks import fully_connected, logits_of, network, pooled_by, shown

TARGETS = torch.tensor([2, 0, 1, 1])


class _Logits(nn.Module):
    """A network's prediction alone, as pytorch-grad-cam takes models."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)
        return output if isinstance(output, Tensor) else output.logits


def library_maps(name: str, model: Any, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Maps of a class of pytorch-grad-cam, which stretches each to [0, 1]."""
    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    target = pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    with getattr(library, name)(_Logits(model), [layer]) as method:
        return torch.from_numpy(method(images.float(), [target(int(one)) for one in targets]))


def stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-30)


@pytest.mark.parametrize(
    "kind", ["abn-cifar_resnet8", "abn-se_resnet-basic", "plain-resnext11_2x4d", "fully connected"]
)
def test_it_is_pytorch_grad_cams(kind: str) -> None:
    model, images = (fully_connected(), network("abn-product")[1]) if kind == "fully connected" else network(kind)
    images = images.repeat(1, 1, 2, 2).float()
    ours = explain(model.float(), images, TARGETS, method="gradcam")
    theirs = library_maps("GradCAM", model, model.perception_branch.stage, images, TARGETS)
    torch.testing.assert_close(stretched(ours), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["plain-densenet_bc10_4", "plain-wide_resnet10_1"])
def test_of_pre_activation_networks_it_reads_what_norm_and_relu_leave(kind: str) -> None:
    model, images = network(kind)
    branch = model.float().perception_branch
    activation = nn.Sequential(branch.pool.bn, nn.ReLU())
    whole = nn.Sequential(
        model.extractor, branch.stage, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), branch.classifier
    )
    theirs = library_maps("GradCAM", whole, activation, images, TARGETS)
    ours = explain(model, images.float(), TARGETS, method="gradcam")
    torch.testing.assert_close(stretched(ours), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "tasks-cifar_resnet"])
def test_after_gap_and_a_linear_layer_it_is_cam(kind: str) -> None:
    model, images = network(kind)
    torch.testing.assert_close(explain(model, images, method="gradcam"), explain(model, images, method="cam"))


def test_it_is_the_closed_form_of_a_classifier_of_several_layers() -> None:
    model, images = fully_connected(), network("abn-product")[1]
    features = pooled_by(model, images)
    pooled, (first, _, _, last) = model.perception_branch.pool(features), model.perception_branch.classifier
    active = (pooled @ first.weight.T + first.bias > 0).double()
    logits = (active * (pooled @ first.weight.T + first.bias)) @ last.weight.T + last.bias
    torch.testing.assert_close(logits, logits_of(model, images))
    # each pixel's gradient is the mean of its cell's: the mean over all is the sum over the 2 x 2 cells over h w
    cells = ((last.weight[TARGETS] * active) @ first.weight).unflatten(1, (-1, 4)).sum(2)
    maps = torch.einsum("nc,nchw->nhw", cells, features)
    ours = explain(model, images, TARGETS, method="gradcam")
    torch.testing.assert_close(ours, shown(maps.detach(), (30, 34)).float(), rtol=1e-4, atol=1e-5)
