"""Networks from a person's own parts."""

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from abn_fast import AbnFastError
from abn_fast.modules import (
    ABNOutput,
    AttentionBranch,
    AttentionBranchNetwork,
    AttentionHead,
    Classifier,
    GlobalAveragePool,
    LogMapAttentionHead,
    ModelConfig,
    PerceptionBranch,
)

K = 4
Network = AttentionBranchNetwork | Classifier


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def perception() -> PerceptionBranch:
    stage = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
    return PerceptionBranch(stage, GlobalAveragePool(), nn.Linear(6, K))


def extractor() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU())


def make_abn(head: AttentionHead | LogMapAttentionHead | None = None) -> AttentionBranchNetwork:
    stage = nn.Sequential(nn.Conv2d(5, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU())
    return AttentionBranchNetwork(extractor(), AttentionBranch(stage, head or AttentionHead(6, K)), perception(), K)


def make_classifier() -> Classifier:
    return Classifier(extractor(), perception(), K)


def images(batch: int = 2, size: tuple[int, int] = (9, 12)) -> Tensor:
    return torch.randn(batch, 3, *size)


def test_the_forward_is_that_of_the_papers_parts() -> None:
    model = make_abn().eval()
    x = images()
    features = model.extractor(x)
    stage_output = model.attention_branch.stage(features)
    attention_logits, gated, attention = model.attention_branch.head(stage_output, features)
    torch.testing.assert_close(gated, features * (1 + attention))
    logits = model.perception_branch.classifier(model.perception_branch.stage(gated).mean((2, 3)))
    output = model(x)
    assert isinstance(output, ABNOutput)
    assert output._fields == ("attention_logits", "logits", "attention")
    torch.testing.assert_close(tuple(output), (attention_logits, logits, attention))
    assert [tuple(o.shape) for o in output] == [(2, K), (2, K), (2, 1, 5, 6)]


def test_the_output_unpacks_as_that_of_the_published_code() -> None:
    attention_logits, logits, attention = make_abn()(images())
    assert (attention_logits.shape, logits.shape, attention.shape) == ((2, K), (2, K), (2, 1, 5, 6))


def test_a_given_map_takes_the_place_of_the_own_one() -> None:
    model = make_abn().eval()
    x, given = images(), torch.rand(1, 1, 5, 6)
    own, output = model(x), model(x, attention=given)
    torch.testing.assert_close(output.attention, given.expand(2, -1, -1, -1))
    torch.testing.assert_close(output.logits, model.perception_branch(model.extractor(x) * (1 + given)))
    torch.testing.assert_close(output.attention_logits, own.attention_logits)
    torch.testing.assert_close(model(x, own.attention).logits, own.logits)


def test_a_given_map_of_the_images_size_is_refused_with_the_size_it_needs() -> None:
    with pytest.raises(AbnFastError, match=r"9, 12.*5, 6") as error:
        make_abn()(images(), torch.rand(2, 1, 9, 12))
    assert "\n" not in str(error.value)


def test_a_stage_with_a_stride_is_refused() -> None:
    branch = AttentionBranch(nn.Conv2d(5, 6, 3, 2, 1), AttentionHead(6, K))
    model = AttentionBranchNetwork(extractor(), branch, perception(), K)
    with pytest.raises(AbnFastError, match="stride"):
        model(images())


@pytest.mark.parametrize("make", [make_abn, make_classifier])
def test_features_and_head_make_the_forward(make: Callable[[], Network]) -> None:
    model = make().eval()
    x = images()
    features = model.forward_features(x)
    output = model(x)
    logits = output.logits if isinstance(output, ABNOutput) else output
    assert features.shape == (2, 6, 3, 3)
    torch.testing.assert_close(model.forward_head(features), logits)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    torch.testing.assert_close(model.get_classifier()(pooled), logits)


@pytest.mark.parametrize("make", [make_abn, make_classifier])
def test_reset_classifier_gives_other_classes_and_keeps_the_rest(make: Callable[[], Network]) -> None:
    model = make()
    model.config = ModelConfig("mine", {"num_classes": K, "width": 5})
    before = copy.deepcopy(model.state_dict())
    model.reset_classifier(9)
    assert model.num_classes == 9
    assert model.config == ModelConfig("mine", {"num_classes": 9, "width": 5})
    output = model(images())
    assert {tuple(o.shape) for o in (output[:2] if isinstance(output, ABNOutput) else [output])} == {(2, 9)}
    after = make().state_dict() | model.state_dict()
    kept = [key for key, value in before.items() if value.shape == after[key].shape]
    assert any(key.startswith("extractor") for key in kept)
    model_after = dict(model.named_parameters())
    for key in set(kept) & set(model_after):
        assert torch.equal(model_after[key], before[key]), key


@pytest.mark.parametrize("count", [0, -1, True, "ten", 2.0, None])
def test_reset_classifier_refuses_a_wrong_count_and_changes_nothing(count: int) -> None:
    model = make_abn()
    with pytest.raises(AbnFastError, match="num_classes") as error:
        model.reset_classifier(count)
    assert "\n" not in str(error.value)
    assert model(images()).logits.shape == (2, K)
    assert model.num_classes == K


def test_a_classifier_without_linear_layer_cannot_be_reset_and_says_so() -> None:
    model = Classifier(extractor(), PerceptionBranch(nn.Identity(), GlobalAveragePool(), nn.Softmax(1)), 5)
    with pytest.raises(AbnFastError, match="Softmax"):
        model.reset_classifier(3)
    assert model.num_classes == 5


@pytest.mark.parametrize("head", [AttentionHead, LogMapAttentionHead])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_no_map_stays_on_the_model(head: type[AttentionHead], training: bool) -> None:
    model = make_abn(head(6, K)).train(training)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    output = model(images())
    for name, module in model.named_modules():
        assert set(vars(module)) == before[name]
        assert not any(isinstance(value, Tensor) for value in vars(module).values())
    attention = weakref.ref(output.attention)
    del output
    gc.collect()
    assert attention() is None


def test_a_deep_copy_gives_the_same_and_trains_apart() -> None:
    model = make_abn()
    twin = copy.deepcopy(model)
    x = images()
    torch.testing.assert_close(tuple(model(x)), tuple(twin(x)))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(parameter.abs().max() > 0 for parameter in model.extractor.parameters() if parameter.ndim > 1)


def test_the_state_dict_carries_the_network() -> None:
    model, fresh = make_abn(), make_abn()
    model(images())
    fresh.load_state_dict(model.state_dict())
    x = images()
    torch.testing.assert_close(tuple(fresh.eval()(x)), tuple(model.eval()(x)))


def test_a_frozen_extractor_leaves_the_rest_trainable() -> None:
    model = make_abn()
    model.extractor.requires_grad_(False)
    output = model(images())
    (output.logits.sum() + output.attention_logits.sum()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("extractor"), name


def test_running_statistics_move_only_in_training() -> None:
    model = make_abn()
    x = images()
    model.eval()(x)
    assert all(int(b) == 0 for name, b in model.named_buffers() if name.endswith("num_batches_tracked"))
    model.train()(x)
    assert all(int(b) == 1 for name, b in model.named_buffers() if name.endswith("num_batches_tracked"))
