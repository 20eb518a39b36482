from fnmatch import fnmatchcase

import pytest
import torch

from abn_fast import AbnFastError, AttentionBranchNetwork, Classifier, create_model, list_models
from abn_fast.models import _registry
from abn_fast.models._backbone import Backbone
from abn_fast.models._registry import register_model


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_FAMILIES", dict(_registry._FAMILIES))


def build(*, depth: int = 1, num_classes: int = 10, in_chans: int = 3) -> Backbone:
    raise NotImplementedError


@pytest.mark.parametrize("name", list_models())
def test_every_listed_name_builds(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=3)
    assert type(model) is (AttentionBranchNetwork if name.startswith("abn_") else Classifier)
    assert model.config is not None
    assert model.config.name == name


def test_each_network_is_listed_with_and_without_attention_branch() -> None:
    names = list_models()
    assert len(names) == len(set(names))
    plain = {name for name in names if not name.startswith("abn_")}
    assert {name.removeprefix("abn_") for name in names if name.startswith("abn_")} == plain


def test_the_papers_networks_are_listed() -> None:
    families = ("cifar_resnet20", "cifar_resnet110", "wide_resnet28_10", "densenet_bc100_12", "resnext29_8x64d")
    imagenet = [f"{kind}resnet{depth}" for kind in ("", "se_") for depth in (18, 34, 50, 101, 152)]
    assert set(families) | set(imagenet) | {"vgg16", "vgg16_bn", "vgg16_cam", "vgg16_bn_cam"} <= set(list_models())


@pytest.mark.parametrize("pattern", ["*resnet*", "abn_*", "vgg16*", "abn_se_resnet??", "resnet50", "no such*"])
def test_patterns_select_names(pattern: str) -> None:
    assert list_models(pattern) == [name for name in list_models() if fnmatchcase(name, pattern)]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("resent50", "resnet50"),
        ("abn_resnet_50", "resnet50"),
        ("wide_resnet28", "wide_resnet28_10"),
        ("densenet100_12", "densenet_bc100_12"),
        ("vgg16_batchnorm", "vgg16_bn"),
        ("seresnet50", "se_resnet50"),
        ("ABN_ResNet50", "resnet50"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(AbnFastError, match=f"unknown model.*did you mean .*{near}") as error:
        create_model(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "abn_", "x", "abn_abn_resnet50", "resnet", "resnet50 ", "resnet50x", "resnet-50"])
def test_names_that_are_none_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(AbnFastError) as error:
        create_model(name)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("own_registry")
def test_a_registered_family_is_listed_and_found() -> None:
    register_model("tiny{depth}_{width}x", variants=[{"depth": 3, "width": 4}], image_size=32)(build)
    assert list_models("*tiny*") == ["abn_tiny3_4x", "tiny3_4x"]
    family, numbers = _registry.find_family("tiny12_7x")
    assert (family.build, numbers) == (build, {"depth": 12, "width": 7})


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("template", ["resnet{depth}", "resnet50", "cifar_{kind}20"])
def test_a_name_that_is_taken_is_refused(template: str) -> None:
    variants: list[dict[str, int]] = [{"depth": 5, "kind": "resnet"}]  # type: ignore[dict-item]  # fills "cifar_{kind}20"
    register = register_model(template, variants=variants, image_size=32)
    before = list_models()
    with pytest.raises(ValueError, match="registered already"):
        register(build)
    assert list_models() == before


@pytest.mark.usefixtures("own_registry")
def test_a_family_whose_variants_repeat_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register_model("tiny{depth}", variants=[{"depth": 3}, {"depth": 3}], image_size=32)(build)


@pytest.mark.usefixtures("own_registry")
def test_a_second_builder_of_the_same_name_is_refused() -> None:
    def resnet(*, depth: int, num_classes: int = 10, in_chans: int = 3) -> Backbone:
        raise NotImplementedError

    with pytest.raises(ValueError, match="registered already"):
        register_model("my_resnet{depth}", variants=[{"depth": 3}], image_size=32)(resnet)
