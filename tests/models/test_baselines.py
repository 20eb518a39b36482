"""Plain baselines against the same networks of torchvision and timm, and against the papers' parameter counts."""

import pytest
import timm
import torch
import torchvision.models as peers
from torch import nn

from abn_fast import create_model


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def filled(network: nn.Module, like: nn.Module) -> nn.Module:
    """The meta network with the tensors of another of the same layers in the same order."""
    state = dict(zip(network.state_dict(), like.state_dict().values(), strict=True))
    network.load_state_dict(state, assign=True)
    return network


def randomised(network: nn.Module) -> nn.Module:
    """The meta network with cheap weights of a sensible size, and norms that do something."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, meta in network.state_dict().items():
        if meta.dtype == torch.int64:
            state[name] = torch.zeros((), dtype=meta.dtype)
        elif meta.ndim == 1:
            state[name] = torch.rand(meta.shape, generator=generator) * 0.5 + 0.5
        else:
            bound = (6 / meta[0].numel()) ** 0.5
            state[name] = torch.empty(meta.shape).uniform_(-bound, bound, generator=generator)
    network.load_state_dict(state, assign=True)
    return network


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11_bn", "vgg16"])
def test_outputs_with_copied_weights_are_torchvisions(name: str) -> None:
    size = (97, 131)
    with torch.device("meta"):
        peer, network = getattr(peers, name)(num_classes=7), create_model(name, num_classes=7)
    peer = randomised(peer)
    ours = filled(network, peer)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), peer.eval()(images), rtol=1e-4, atol=1e-4)
        if name.startswith("resnet"):
            torch.testing.assert_close(ours.train()(images), peer.train()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg11", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"],
)
def test_parameter_counts_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        assert count(create_model(name)) == count(getattr(peers, name)())


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_squeeze_and_excitation_adds_what_it_adds_in_timm(depth: int) -> None:
    with torch.device("meta"):
        assert count(create_model(f"se_resnet{depth}")) == count(timm.create_model(f"legacy_seresnet{depth}"))


PAPERS = {
    "cifar_resnet20": 0.27,
    "wide_resnet16_8": 11.0,
    "wide_resnet28_10": 36.5,
    "wide_resnet40_4": 8.9,
    "densenet_bc100_12": 0.8,
    "resnext29_8x64d": 34.4,
    "resnext29_16x64d": 68.1,
}


@pytest.mark.parametrize("name", PAPERS)
def test_parameter_counts_are_the_papers(name: str) -> None:
    with torch.device("meta"):
        millions = count(create_model(name)) / 1e6
    digits = len(str(PAPERS[name]).partition(".")[2])
    assert abs(millions - PAPERS[name]) <= 10**-digits, millions


@pytest.mark.parametrize("name", ["vgg16_cam", "vgg16_bn_cam"])
def test_the_cam_variant_is_vgg_with_one_linear_layer_on_the_averaged_features(name: str) -> None:
    with torch.device("meta"):
        ours, features = create_model(name, num_classes=7), getattr(peers, name.removesuffix("_cam"))().features
    peer = randomised(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 7, device="meta")))
    images = torch.randn(1, 3, 70, 83, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(filled(ours, peer).eval()(images), peer.eval()(images), rtol=1e-4, atol=1e-4)
