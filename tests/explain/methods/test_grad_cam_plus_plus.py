from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast.explain import explain
from abn_fast.explain.methods.activations import activations_of
from abn_fast.explain.methods.grad_cam_plus_plus import grad_cam_plus_plus
from tests.explain.methods._networks import fully_connected, network, pooled_by, shown
from tests.explain.methods.test_grad_cam import TARGETS, library_maps, stretched


def derivative(score: Tensor, features: Tensor, place: tuple[int, ...]) -> Tensor:
    """Of the score by one value of the features."""
    if not score.requires_grad:
        return torch.zeros_like(score)
    [gradient] = torch.autograd.grad(score, features, create_graph=True, allow_unused=True, materialize_grads=True)
    return gradient[place]


def papers_maps(model: Any, features: Tensor, target: int) -> Tensor:
    """Equations 10 and 19 with the derivatives of Y = exp(logit) themselves, for one image."""
    features = features.detach().requires_grad_()
    weights = torch.zeros(features.shape[1], dtype=torch.float64)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in features.shape[1:])).tolist():
        where = (0, *place)
        derivatives = [model.forward_head(features)[0, target].exp()]
        for _ in range(3):
            derivatives.append(derivative(derivatives[-1], features, where))
        _, first, second, third = (value.detach() for value in derivatives)
        denominator = 2 * second + features[0, place[0]].detach().sum() * third
        if denominator != 0:
            weights[place[0]] += second / denominator * first.clamp(min=0)
    return torch.einsum("c,nchw->nhw", weights, features.detach())


@pytest.mark.parametrize("kind", ["plain-cifar_resnet8", "fully connected"])
def test_it_is_the_papers_with_derivatives_of_the_exponential_score(kind: str) -> None:
    model = fully_connected() if kind == "fully connected" else network(kind)[0]
    images = torch.randn(2, 3, 14, 10, generator=torch.Generator().manual_seed(3)).double()
    targets = torch.tensor([0, 2])
    with torch.no_grad():
        activations = activations_of(model, images, targets)
        features = activations.last_features[:, :, :3, :2]
        activations.__dict__["last_features"] = features
        ours = grad_cam_plus_plus(activations)
    theirs = torch.cat([papers_maps(model, one[None], int(y)) for one, y in zip(features, targets, strict=True)])
    assert (theirs > 0).any()
    torch.testing.assert_close(shown(ours.double(), (6, 4)), shown(theirs, (6, 4)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "fully connected"])
def test_it_is_pytorch_grad_cams_where_the_gradient_outweighs_its_small_number(kind: str) -> None:
    model, images = (fully_connected(), network("abn-product")[1]) if kind == "fully connected" else network(kind)
    last = model.get_classifier() if kind != "fully connected" else model.get_classifier()[-1]
    with torch.no_grad():
        last.weight.mul_(1e3)
    ours = explain(model.float(), images.float(), TARGETS, method="gradcam++")
    theirs = library_maps("GradCAMPlusPlus", model, model.perception_branch.stage, images, TARGETS)
    torch.testing.assert_close(stretched(ours), theirs, rtol=1e-2, atol=2e-3)


def test_where_gradients_are_small_each_channel_counts_by_its_gradient() -> None:
    model, images = network("plain-cifar_resnet8")
    weight = model.get_classifier().weight
    with torch.no_grad():
        weight.mul_(1e-4)  # now 2 + g sum(A) is 2
    maps = torch.einsum("nc,nchw->nhw", weight.detach()[TARGETS].relu(), pooled_by(model, images))
    ours = explain(model, images, TARGETS, method="gradcam++")
    torch.testing.assert_close(ours, shown(maps, (30, 34)).float(), rtol=1e-3, atol=1e-4)
