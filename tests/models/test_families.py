"""What holds of every family, as attention branch network and as plain baseline."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from abn_fast import AbnFastError, ABNOutput, abn_loss, create_model
from abn_fast.kernels import Gate
from abn_fast.models._registry import Family, families
from tests.models._variants import NUM_CLASSES, VARIANTS, Variant

GATES: tuple[Gate, ...] = ("residual", "product")
all_variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def map_size(variant: Variant, size: tuple[int, int]) -> tuple[int, int]:
    """Of a network whose convolutions are padded and whose pools are not."""
    height, width = size
    halvings = variant.reduction.bit_length() - 1
    pools = {"vgg": halvings, "densenet": halvings}.get(variant.name.split("_")[0].rstrip("0123456789"), 0)
    for i in range(halvings):
        height, width = (height // 2, width // 2) if i < pools else (-(-height // 2), -(-width // 2))
    return height, width


def assert_all_learn(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("gate", GATES)
@all_variants
def test_an_attention_branch_network_trains_on_odd_sizes(variant: Variant, gate: Gate) -> None:
    model = variant.abn(gate=gate)
    size = variant.sizes[gate == "product"]
    output = model(torch.randn(2, 3, *size))
    assert [tuple(o.shape) for o in output] == [
        (2, NUM_CLASSES),
        (2, NUM_CLASSES),
        (2, 1, *map_size(variant, size)),
    ]
    abn_loss(output, torch.tensor([0, NUM_CLASSES - 1])).backward()
    assert_all_learn(model)


@all_variants
def test_a_plain_baseline_trains_on_odd_sizes(variant: Variant) -> None:
    model = variant.plain()
    logits = model(torch.randn(2, 3, *variant.sizes[1]))
    assert logits.shape == (2, NUM_CLASSES)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert_all_learn(model)


@all_variants
def test_a_batch_of_one_trains(variant: Variant) -> None:
    model = variant.abn()
    output = model(torch.randn(1, 3, *variant.sizes[0]))
    abn_loss(output, torch.tensor([1])).backward()
    assert_all_learn(model)
    assert all(o.isfinite().all() for o in output)


@all_variants
def test_an_image_gives_the_same_alone_and_in_a_batch(variant: Variant) -> None:
    model = variant.abn().eval()
    images = torch.randn(3, 3, *variant.sizes[0])
    with torch.no_grad():
        together, alone = model(images), model(images[1:2])
        torch.testing.assert_close(tuple(alone), tuple(o[1:2] for o in together), rtol=1e-4, atol=1e-5)
        assert [o.shape[0] for o in model(images[:0])] == [0, 0, 0]


@all_variants
def test_a_map_of_zeros_makes_the_plain_baseline(variant: Variant) -> None:
    abn, plain = variant.abn(), variant.plain()
    shared = {k: v for k, v in abn.state_dict().items() if not k.startswith("attention_branch.")}
    plain.load_state_dict(shared)
    images = torch.randn(2, 3, *variant.sizes[0])
    zeros = torch.zeros(1, 1, *map_size(variant, variant.sizes[0]))
    for mode in (False, True):
        # the perception branch's first state is the same for both, so are the batch statistics
        ours = copy.deepcopy(abn).train(mode)(images, zeros).logits
        torch.testing.assert_close(ours, copy.deepcopy(plain).train(mode)(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
@all_variants
def test_a_given_map_replaces_the_own_one(variant: Variant, gate: Gate) -> None:
    model = variant.abn(gate=gate).eval()
    images = torch.randn(2, 3, *variant.sizes[0])
    own = model(images)
    given = torch.rand_like(own.attention) * 3
    output = model(images, attention=given)
    assert torch.equal(output.attention, given)
    assert torch.equal(output.attention_logits, own.attention_logits)
    features = model.extractor(images)
    gated = features * (1 + given) if gate == "residual" else features * given
    torch.testing.assert_close(output.logits, model.perception_branch(gated))
    assert not torch.allclose(output.logits, own.logits)
    with pytest.raises(AbnFastError, match="attention has shape"):
        model(images, attention=given[..., 1:])


@all_variants
def test_the_map_is_bounded_by_the_sigmoid_or_is_the_sum_of_logs(variant: Variant) -> None:
    model = variant.abn()
    attention = model(torch.randn(2, 3, *variant.sizes[0])).attention
    if variant.name.startswith("se_resnet"):
        assert attention.min() >= 0
        assert not any("map_conv" in name or ".head.bn3" in name for name in model.state_dict())
    else:
        assert 0 < attention.min() < 0.5 < attention.max() < 1


@all_variants
def test_grey_images_are_an_argument_away(variant: Variant) -> None:
    images = torch.randn(2, 1, *variant.sizes[0])
    assert variant.abn(in_chans=1).eval()(images).logits.shape == (2, NUM_CLASSES)
    assert variant.plain(in_chans=1).eval()(images).shape == (2, NUM_CLASSES)


@all_variants
def test_features_and_head_make_the_forward(variant: Variant) -> None:
    images = torch.randn(2, 3, *variant.sizes[0])
    for model in (variant.abn().eval(), variant.plain().eval()):
        output = model(images)
        logits = output.logits if isinstance(output, ABNOutput) else output
        features = model.forward_features(images)
        assert features.ndim == 4
        torch.testing.assert_close(model.forward_head(features), logits)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.ndim == 2
        torch.testing.assert_close(model.get_classifier()(pooled), logits)


@all_variants
def test_reset_classifier_changes_the_classes_and_nothing_else(variant: Variant) -> None:
    images = torch.randn(2, 3, *variant.sizes[0])
    for model in (variant.abn(), variant.plain()):
        model.double()
        before = copy.deepcopy(dict(model.named_parameters()))
        model.reset_classifier(NUM_CLASSES + 3)
        assert model.num_classes == NUM_CLASSES + 3
        assert model.config is not None
        assert model.config.arguments["num_classes"] == NUM_CLASSES + 3
        parameters = dict(model.named_parameters())
        assert {p.dtype for p in parameters.values()} == {torch.float64}
        assert list(parameters) == list(before)
        for name, parameter in parameters.items():
            of_classes = "classifier" in name or (".head." in name and "bn1" not in name and "bn3" not in name)
            assert of_classes or torch.equal(parameter, before[name]), name
            assert not of_classes or parameter.shape != before[name].shape, name
        output = model(images.double())
        logits = output[:2] if isinstance(output, ABNOutput) else (output,)
        assert {tuple(o.shape) for o in logits} == {(2, NUM_CLASSES + 3)}
        rebuilt = create_model(model.config.name, **model.config.arguments)
        assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }


@all_variants
def test_reset_classifier_to_the_same_count_starts_afresh(variant: Variant) -> None:
    model = variant.abn()
    before = copy.deepcopy(model.state_dict())
    model.reset_classifier(NUM_CLASSES)
    fresh = ["perception_branch.classifier.weight", "attention_branch.head.class_conv.weight"]
    fresh.append("attention_branch.head.evidence_conv.weight")
    for name in fresh:
        assert not torch.equal(model.state_dict()[name], before[name]), name


def test_reset_classifier_keeps_the_device() -> None:
    with torch.device("meta"):
        model = create_model("abn_resnet50")
    model.reset_classifier(7)
    assert {p.device.type for p in itertools.chain(model.parameters(), model.buffers())} == {"meta"}


def test_reset_classifier_in_evaluation_leaves_the_network_in_evaluation() -> None:
    model = VARIANTS[0].abn().eval()
    model.reset_classifier(7)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images[:1]).logits, model(images).logits[:1])


@all_variants
def test_a_network_survives_copies_pickles_and_state_dicts(variant: Variant) -> None:
    model = variant.abn().eval()
    images = torch.randn(1, 3, *variant.sizes[0])
    expected = tuple(model(images))
    restored = variant.abn().eval()
    restored.load_state_dict(model.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), restored):
        torch.testing.assert_close(tuple(twin(images)), expected)


@all_variants
def test_channels_last_gives_the_same(variant: Variant) -> None:
    model = variant.abn()
    images = torch.randn(2, 3, *variant.sizes[0])
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    ours, expected = last(images.contiguous(memory_format=torch.channels_last)), model(images)
    torch.testing.assert_close(tuple(ours), tuple(expected), rtol=1e-3, atol=1e-4)


@all_variants
def test_autocast_trains(variant: Variant) -> None:
    model = variant.abn()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(2, 3, *variant.sizes[0]))
        loss = abn_loss(output, torch.tensor([0, 1]))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_vgg_with_fully_connected_layers_trains_and_takes_a_map() -> None:
    model = create_model("abn_vgg11_bn", num_classes=3)
    images = torch.randn(2, 3, 97, 131)
    output = model(images)
    abn_loss(output, torch.tensor([0, 2])).backward()
    assert_all_learn(model)
    with torch.no_grad():
        model.eval()
        plain = model.perception_branch(model.extractor(images))
        torch.testing.assert_close(model(images, torch.zeros_like(output.attention)).logits, plain)
    model.reset_classifier(4)
    assert model(images[:1]).logits.shape == (1, 4)


@pytest.mark.parametrize("name", ["abn_wide_resnet10_1", "abn_densenet_bc10_4"])
def test_dropout_is_active_only_in_training_and_only_on_request(name: str) -> None:
    images = torch.randn(2, 3, 33, 47)
    model, without = create_model(name, drop_rate=0.5), create_model(name)

    def differ(network: nn.Module, training: bool) -> bool:
        network.train(training)
        first, second = network(images), network(images)
        return not torch.allclose(first.logits, second.logits) or not torch.allclose(
            first.attention_logits, second.attention_logits
        )

    assert differ(model, training=True)
    assert not differ(model, training=False)
    assert not differ(without, training=True)


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_the_fully_connected_layers_of_vgg_drop_as_asked(name: str) -> None:
    with torch.device("meta"):
        models = create_model(name), create_model(name, drop_rate=0.1)
    rates = [[layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] for model in models]
    assert rates == [[0.5, 0.5], [0.1, 0.1]]


PAPER_MAPS = {"densenet_bc": 8, "cifar_resnet": 16, "wide_resnet": 16, "resnext": 16}


@pytest.mark.parametrize("family", families(), ids=lambda family: family.base_name)
def test_listed_networks_draw_maps_of_the_papers_size(family: Family) -> None:
    side = PAPER_MAPS.get(family.base_name, 14)
    with torch.device("meta"):
        images = torch.randn(2, 3, family.image_size, family.image_size)
        for name in family.names:
            model = create_model(f"abn_{name}").eval()
            output = model(images)
            classes = 10 if family.image_size == 32 else 1000
            assert [tuple(o.shape) for o in output] == [(2, classes), (2, classes), (2, 1, side, side)], name
            assert create_model(name).eval()(images).shape == (2, classes), name


def test_a_network_trains_on_the_meta_device() -> None:
    with torch.device("meta"):
        output = create_model("abn_cifar_resnet8")(torch.randn(2, 3, 32, 32))
    assert output.logits.shape == (2, 10)


def test_every_family_has_a_small_variant_here() -> None:
    untested = [f.base_name for f in families() if all(f.match(variant.name) is None for variant in VARIANTS)]
    assert untested == ["vgg", "vgg_bn"]
