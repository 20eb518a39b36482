import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from abn_fast import AbnFastError
from abn_fast.models._factory import create_model
from abn_fast.models._from_backbone import from_backbone
from abn_fast.modules import AttentionBranchNetwork

timm = pytest.importorskip("timm")

TIMM_MODELS = {
    "test_resnet": {},
    "resnet10t": {},
    "resnest14d": {},
    "test_byobnet": {},
    "test_convnext": {},
    "test_efficientnet": {},
    "test_nfnet": {},
    "mobilenetv3_small_050": {},
    "regnety_002": {},
    "edgenext_xx_small": {},
    "densenet121": {},
    "vgg11_bn": {"mlp_ratio": 0.01},
}
SMALL = ("test_resnet", "test_convnext", "test_nfnet")


def timm_model(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=7, **TIMM_MODELS[name], **arguments)
    return randomise_norms(model).eval()


def randomise_norms(model: nn.Module) -> nn.Module:
    """Fresh running statistics would hide which norm stands where."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for statistics, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                assert statistics is not None
                nn.init.uniform_(statistics, low, high)
    return model


def images(height: int = 96, width: int = 128, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def map_of(network: AttentionBranchNetwork, x: Tensor, make: Callable[..., Tensor]) -> Tensor:
    height, width = network.extractor(x).shape[-2:]
    return make(len(x), 1, height, width)


@pytest.mark.parametrize("name", TIMM_MODELS)
@torch.no_grad()
def test_a_map_of_zeros_gives_the_models_own_logits_and_another_map_does_not(name: str) -> None:
    model, x = timm_model(name), images()
    network = from_backbone(model)
    expected = model(x)
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
    logits = network(x, attention=map_of(network, x, torch.zeros)).logits
    assert_close(logits, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    gated = network(x, attention=map_of(network, x, torch.rand)).logits
    assert (gated - expected).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_the_network_learns(name: str) -> None:
    network = from_backbone(timm_model(name)).train()
    output = network(images())
    (output.attention_logits.square().sum() + output.logits.square().sum()).backward()
    unused = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert not unused


def test_the_model_stays_as_it_is() -> None:
    model = timm_model("test_resnet")
    model.get_submodule("layer1").train()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    network = from_backbone(model, num_classes=3)
    for parameter in network.parameters():
        parameter.data.zero_()
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes
    assert model(images()).shape == (2, 7)


def test_the_attention_stage_starts_from_the_last_stage() -> None:
    network = from_backbone(timm_model("test_resnet"))
    assert_close(network.attention_branch.stage.state_dict(), network.perception_branch.stage.state_dict())


@pytest.mark.parametrize("name", [*SMALL, "test_efficientnet"])
def test_a_fresh_attention_stage_shares_no_weights_with_the_last_stage(name: str) -> None:
    network = from_backbone(timm_model(name), attention_stage="fresh")
    copied = dict(network.perception_branch.stage.named_parameters())
    for key, weight in network.attention_branch.stage.named_parameters():
        if weight.ndim > 1 and copied[key].std() > 0:
            assert not torch.equal(weight, copied[key]), key


def test_a_fresh_attention_stage_of_a_model_that_no_name_rebuilds_is_reset_layer_by_layer() -> None:
    model = timm_model("test_resnet")
    convolution = model.get_submodule("layer4.0.conv1")
    convolution.bias = nn.Parameter(torch.zeros(len(convolution.get_parameter("weight"))))
    network = from_backbone(model, attention_stage="fresh")
    assert network.config is None
    fresh, copied = (
        branch.stage.get_parameter("layer4.0.conv1.weight")
        for branch in (network.attention_branch, network.perception_branch)
    )
    assert not torch.equal(fresh, copied)


def test_the_attention_branch_is_trainable_when_the_model_is_frozen() -> None:
    network = from_backbone(timm_model("test_resnet").requires_grad_(False))
    assert all(parameter.requires_grad for parameter in network.attention_branch.parameters())
    assert not any(parameter.requires_grad for parameter in network.extractor.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("height", "width", "batch"), [(64, 64, 1), (97, 161, 1), (224, 96, 3)])
@torch.no_grad()
def test_any_image_size_and_batch(name: str, height: int, width: int, batch: int) -> None:
    network = from_backbone(timm_model(name))
    x = images(height, width, batch)
    output = network(x)
    assert output.logits.shape == output.attention_logits.shape == (batch, 7)
    assert output.attention.shape == (batch, 1, *network.extractor(x).shape[-2:])


def test_the_number_of_classes_can_change_with_the_weights_of_the_rest_kept() -> None:
    model = timm_model("test_resnet")
    network = from_backbone(model, num_classes=3)
    assert [value.shape[1] for value in network(images())[:2]] == [3, 3]
    assert_close(network.extractor.state_dict()["conv1.0.weight"], model.state_dict()["conv1.0.weight"])


def test_the_models_own_number_of_classes_keeps_its_classifier() -> None:
    model = timm_model("test_resnet")
    assert_close(
        from_backbone(model, num_classes=7).get_classifier().state_dict(), model.get_submodule("fc").state_dict()
    )


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "mobilenetv3_small_050", "vgg11_bn"])
def test_the_classifier_can_be_reset(name: str) -> None:
    network = from_backbone(timm_model(name))
    network.reset_classifier(5)
    assert [value.shape[1] for value in network(images())[:2]] == [5, 5]
    assert network.get_classifier().get_parameter("weight").shape[0] == network.num_classes == 5


def test_forward_head_follows_forward_features() -> None:
    network, x = from_backbone(timm_model("test_convnext")), images()
    features = network.forward_features(x)
    assert features.ndim == 4
    assert_close(network.forward_head(features), network(x).logits)
    pre_logits = network.forward_head(features, pre_logits=True)
    assert_close(network.get_classifier()(pre_logits), network(x).logits)


def test_a_model_without_classifier_needs_num_classes() -> None:
    model = timm.create_model("test_resnet", num_classes=0)
    with pytest.raises(AbnFastError, match="num_classes=0"):
        from_backbone(model)
    assert from_backbone(model, num_classes=4).eval()(images()).logits.shape == (2, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_the_dtype_of_the_model_is_kept(dtype: torch.dtype) -> None:
    network = from_backbone(timm_model("test_resnet").to(dtype), num_classes=3, attention_stage="fresh")
    assert {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()} == {dtype}
    assert network(images().to(dtype)).logits.dtype == dtype


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_kept(training: bool) -> None:
    network = from_backbone(timm_model("test_resnet").train(training))
    assert {module.training for module in network.modules()} == {training}


@torch.no_grad()
def test_grey_images() -> None:
    network = from_backbone(timm_model("test_resnet", in_chans=1))
    assert network(images(channels=1)).logits.shape == (2, 7)


@torch.no_grad()
def test_copies_and_state_dicts_carry_the_network() -> None:
    network, other = (from_backbone(timm.create_model("test_resnet", num_classes=7).eval()) for _ in range(2))
    x = images()
    assert not torch.equal(other(x).logits, network(x).logits)
    other.load_state_dict(network.state_dict())
    for restored in (other, copy.deepcopy(network)):
        assert_close(restored(x), network(x))


@torch.no_grad()
def test_dropout_follows_the_mode() -> None:
    network = from_backbone(timm_model("test_resnet", drop_rate=0.5))
    x = images()
    assert_close(network(x), network(x))
    network.perception_branch.train()
    assert not torch.equal(network(x).logits, network(x).logits)


def test_the_network_compiles_in_one_graph() -> None:
    network, x = from_backbone(timm_model("test_resnet")), images()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert_close(tuple(compiled(x)), tuple(network(x)))


class InPlaceBlock(nn.Module):
    """Changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 16, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.relu(x))  # type: ignore[no-any-return]


class Small(nn.Module):
    """A classifier of two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stage: nn.Module = InPlaceBlock()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stage(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


@torch.no_grad()
def test_the_attention_branch_leaves_the_features_for_the_gate() -> None:
    model = Small()
    network, x = from_backbone(model), images()
    gated = network.attention_branch(network.extractor(x), map_of(network, x, torch.zeros)).gated
    assert_close(gated, model.stem(x))
    assert gated.min() < 0


class Unpadded(Small):
    """A last stage that stays smaller than its input without stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(8, 16, 3, 2))


class WithSkip(Small):
    """The stem goes round the last stage."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        pooled = self.pool(self.stage(features)) + features.mean((1, 2, 3), keepdim=True)
        return self.fc(pooled.flatten(1))  # type: ignore[no-any-return]


class Segmenter(Small):
    """Returns maps, not logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(self.stem(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Unpadded(), "into .* even with stride 1"),
        (WithSkip(), "other tensors go round"),
        (Segmenter(), "does not return logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)), "does not take images of 288x320"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "one resolution"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_with_the_reason(model: nn.Module, reason: str) -> None:
    with pytest.raises(AbnFastError, match=f"{type(model).__name__} cannot become .*{reason}") as caught:
        from_backbone(model)
    assert "\n" not in str(caught.value)


def test_networks_that_are_no_backbones_are_refused() -> None:
    for name in ("cifar_resnet20", "abn_cifar_resnet20"):
        with pytest.raises(AbnFastError, match="abn_fast's own"):
            from_backbone(create_model(name, num_classes=2))
    with pytest.raises(AbnFastError, match="takes a name"):
        from_backbone("resnet18")  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"gate": "sum"}, {"attention_stage": "new"}, {"num_classes": 0}])
def test_a_wrong_argument_is_named(arguments: dict[str, object]) -> None:
    with pytest.raises(AbnFastError, match=next(iter(arguments))):
        from_backbone(timm_model("test_resnet"), **arguments)  # type: ignore[arg-type]
