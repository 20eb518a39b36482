"""Initialisation as in the published code, measured on the weights."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.models._variants import VARIANTS, Variant

all_variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)
SIGMAS = 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def networks(variant: Variant) -> Iterator[tuple[str, nn.Module]]:
    """Both networks of a variant, each new and with other classes."""
    for kind, model in (("abn", variant.abn(num_classes=40)), ("plain", variant.plain(num_classes=40))):
        yield kind, model
        model.reset_classifier(50)
        yield f"{kind} after reset", model


def assert_spread(weight: Tensor, deviation: float, name: str, excess_kurtosis: float = 0.0) -> None:
    """Sample mean and deviation within the errors of so many independent values."""
    n = weight.numel()
    assert abs(weight.mean().item()) <= SIGMAS * deviation / math.sqrt(n), name
    error = math.sqrt((excess_kurtosis + 2) / (4 * n))
    assert abs(weight.std(correction=0).item() / deviation - 1) <= SIGMAS * error + 1 / n, name


@all_variants
def test_convolutions_are_normal_with_variance_2_over_kernel_area_and_output_channels(variant: Variant) -> None:
    for kind, model in networks(variant):
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d):
                height, width = layer.kernel_size
                deviation = math.sqrt(2 / (height * width * layer.out_channels))
                assert_spread(layer.weight, deviation, f"{kind} {name}")
                if layer.weight.numel() > 5000:
                    kurtosis = (layer.weight / deviation).pow(4).mean().item()
                    assert kurtosis == pytest.approx(3, abs=SIGMAS * math.sqrt(96 / layer.weight.numel())), name
                assert layer.bias is None or not layer.bias.any(), name


@all_variants
def test_norms_start_as_the_identity(variant: Variant) -> None:
    for _, model in networks(variant):
        for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)):
            state = norm.state_dict()
            assert (state["weight"] == 1).all()
            assert (state["running_var"] == 1).all()
            assert not state["bias"].any()
            assert not state["running_mean"].any()


@all_variants
def test_linear_layers_start_as_published(variant: Variant) -> None:
    family = variant.name.rstrip("0123456789").split("_")[0]
    for kind, model in networks(variant):
        for name, layer in model.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            name, inputs = f"{kind} {name}", layer.in_features
            if variant.name.startswith("resnext"):
                assert_spread(layer.weight, math.sqrt(2 / inputs), name)
            elif family.startswith("vgg"):
                assert_spread(layer.weight, 0.01, name)
            else:  # torch's own: uniform within 1 / sqrt(inputs)
                assert_spread(layer.weight, 1 / math.sqrt(3 * inputs), name, excess_kurtosis=-1.2)
                assert layer.weight.abs().max() <= 1 / math.sqrt(inputs)
            if variant.name.startswith(("resnext", "wide_resnet", "vgg")):
                assert not layer.bias.any(), name
            else:
                assert 0 < layer.bias.abs().max() <= 1 / math.sqrt(inputs), name


def test_both_copies_of_the_last_stage_start_differently() -> None:
    for variant in VARIANTS:
        model = variant.abn()
        pairs = zip(model.attention_branch.stage.parameters(), model.perception_branch.stage.parameters(), strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs if a.ndim > 1)


def test_the_same_seed_gives_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(VARIANTS[0].abn().state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
