import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from abn_fast._errors import AbnFastError
from abn_fast.data import IMAGENET, ImageNet, create_dataset, dataset_info
from tests.data._files import write_picture


@pytest.fixture(scope="module")
def wordnet_ids() -> list[str]:
    data = pytest.importorskip("timm.data")  # whose list of the ids is independent of ours
    return sorted(data.ImageNetInfo().label_names())


@pytest.fixture(scope="module")
def imagenet(wordnet_ids: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of each class, in both splits."""
    root = tmp_path_factory.mktemp("imagenet")
    picture = write_picture(root / "picture.jpeg")
    for name in wordnet_ids:
        for file in (f"train/{name}/{name}_1.JPEG", f"val/{name}/ILSVRC2012_val_{name[1:]}.JPEG"):
            (root / file).parent.mkdir(parents=True)
            shutil.copyfile(picture, root / file)
    return root


def test_classes_are_named_and_ordered_as_published(imagenet: Path, wordnet_ids: Sequence[str]) -> None:
    for split in ("train", "test"):
        dataset = create_dataset("imagenet", split, imagenet)
        assert isinstance(dataset, ImageNet)
        assert dataset.wordnet_ids == list(wordnet_ids)
        assert dataset.labels.tolist() == list(range(1000))
        assert dataset.paths[7].parent.name == wordnet_ids[7]
        assert dataset.num_classes == dataset_info("imagenet").num_classes
        assert dataset.preprocessing == IMAGENET
    assert [dataset.classes[number] for number in (0, 207, 999)] == ["tench", "golden retriever", "toilet tissue"]
    descriptions = pytest.importorskip("timm.data").ImageNetInfo()
    agreeing = sum(
        name.lower() in descriptions.index_to_description(index).lower() for index, name in enumerate(dataset.classes)
    )
    assert agreeing > 950  # torchvision spells and cleans up some differently


def test_the_test_split_needs_no_training_images(imagenet: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(imagenet / "val")
    dataset = ImageNet("test", tmp_path)
    assert dataset.classes[1] == "goldfish"
    assert dataset[1][1] == 1
    fails(tmp_path, "train' does not exist")


def fails(root: Path, *parts: str, split: str = "train") -> None:
    with pytest.raises(AbnFastError) as error:
        ImageNet(split, root)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere' does not exist", "train/n01440764/*.JPEG")


def test_a_part_of_imagenet_is_refused(tmp_path: Path) -> None:
    for name in ("n01440764", "n01443537"):
        write_picture(tmp_path / "train" / name / "1.JPEG")
    fails(tmp_path, "has 2 class folders: expected the 1000", "image-folder")
    problems: list[str] = []
    assert ImageNet("train", tmp_path, report=problems.append).classes == ["n01440764", "n01443537"]
    assert len(problems) == 1


def test_unsorted_validation_images_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    fails(tmp_path, "val' has no class folders", "sort them", split="test")
