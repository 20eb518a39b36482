from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._torchvision import cifar, svhn
from abn_fast.data.celeba import CelebA
from abn_fast.data.compcars import CompCars
from abn_fast.data.dataset import ImageDataset, Task
from abn_fast.data.digits_in_the_wild import MEAN, STD, DigitsInTheWild
from abn_fast.data.image_folder import ImageFolder
from abn_fast.data.imagenet import ImageNet
from abn_fast.data.preprocessing import CIFAR, IMAGENET, Preprocessing
from abn_fast.data.split import split_indices

Validation = float | int | Literal["official"]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is opened.

    Attributes:
        name: of `create_dataset` and `--data`.
        task: whether an image has one class or any number of attributes.
        num_classes: number of classes or attributes, or None where the files say.
        preprocessing: the default one.
        files: what `root` holds.
        download: whether the files can be downloaded.
        arguments: names of the data set's own arguments.
    """

    name: str
    open: Callable[..., ImageDataset]
    num_classes: int | None
    preprocessing: Preprocessing
    files: str
    task: Task = "single-label"
    download: bool = False
    arguments: tuple[str, ...] = ()


_CARS = "image/MAKE/MODEL/YEAR/*.jpg, train_test_split/classification/train.txt and test.txt, misc/make_model_name.mat"
_DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "celeba",
            CelebA,
            40,
            IMAGENET,
            "img_align_celeba/*.jpg, list_attr_celeba.txt, list_eval_partition.txt",
            task="multi-label",
            arguments=("report",),
        ),
        DatasetInfo("cifar10", partial(cifar, "cifar10"), 10, CIFAR, "cifar-10-batches-py/", download=True),
        DatasetInfo("cifar100", partial(cifar, "cifar100"), 100, CIFAR, "cifar-100-python/", download=True),
        DatasetInfo("compcars-makes", partial(CompCars, target="make"), None, IMAGENET, _CARS, arguments=("report",)),
        DatasetInfo("compcars-models", partial(CompCars, target="model"), None, IMAGENET, _CARS, arguments=("report",)),
        DatasetInfo(
            "digits-in-the-wild",
            lambda split, root, **arguments: DigitsInTheWild(split, **arguments),
            10,
            Preprocessing((48, 48), MEAN, STD),
            "nothing: it is made of scikit-learn's digits and photographs",
            arguments=("size", "seed", "image_size"),
        ),
        DatasetInfo(
            "image-folder",
            ImageFolder,
            None,
            IMAGENET,
            "train/<class>/<image> and test/<class>/<image>, or <class>/<image>",
            arguments=("classes", "report"),
        ),
        DatasetInfo(
            "imagenet",
            ImageNet,
            1000,
            IMAGENET,
            "train/n01440764/*.JPEG and val/n01440764/*.JPEG",
            arguments=("report",),
        ),
        DatasetInfo("svhn", svhn, 10, CIFAR, "train_32x32.mat and test_32x32.mat", download=True),
    )
}


def list_datasets() -> list[str]:
    """The names that `create_dataset` knows."""
    return list(_DATASETS)


def dataset_info(name: str) -> DatasetInfo:
    """Task, classes, preprocessing and files of a data set.

    Raises:
        AbnFastError: the name is unknown.
    """
    if name not in _DATASETS:
        raise AbnFastError(f"data set {name!r} is unknown: expected one of {', '.join(_DATASETS)}")
    return _DATASETS[name]


def create_dataset(
    name: str,
    split: str,
    root: str | Path = "data",
    augment: bool = False,
    preprocessing: Preprocessing | None = None,
    download: bool = False,
    *,
    validation: Validation | None = None,
    split_seed: int = 0,
    augmentation_seed: int = 0,
    **arguments: Any,
) -> ImageDataset:
    """Open a data set by name.

    Args:
        name: one of `list_datasets()`.
        split: "train", "validation" or "test".
        root: where the files are; digits-in-the-wild needs none.
        augment: whether to augment: pad by 4 pixels and crop (and mirror, for CIFAR), or for files a random
            resized crop and mirroring (for CelebA mirroring alone).
        preprocessing: in place of the data set's own.
        download: whether CIFAR and SVHN may be downloaded to `root` if they are not there.
        validation: the part of the published training set that makes the validation split and is left out of the
            training split: a share (0.1) or a number of images, drawn class by class (see `split_indices`), or
            "official" for CelebA's own or for an image folder's val/ beside train/ and test/, which leaves train/
            whole. None leaves any training set whole.
        split_seed: of that draw; any integer.
        augmentation_seed: any integer.
        arguments: of the data set: size, seed and image_size for digits-in-the-wild, classes for image-folder,
            report for those in files.

    Raises:
        AbnFastError: the name, the split or an argument is unknown, or the files are missing or corrupt.
    """
    info = dataset_info(name)
    if unknown := [argument for argument in arguments if argument not in info.arguments]:
        expected = ", ".join(info.arguments) or "none"
        raise AbnFastError(f"{name} has no argument {', '.join(unknown)}: expected {expected}")
    if split not in ("train", "validation", "test"):
        raise AbnFastError(f"split {split!r}: expected 'train', 'validation' or 'test'")
    if split == "validation" and validation is None:
        raise AbnFastError(
            f"the validation split of {name} is a part of its training set: say which, as validation=0.1"
        )
    if info.download:
        arguments["download"] = download
    elif download and name != "digits-in-the-wild":
        raise AbnFastError(f"{name} has nothing to download: root has to hold {info.files}")
    arguments |= {"augment": augment, "preprocessing": preprocessing, "augmentation_seed": augmentation_seed}
    if validation == "official" and name == "image-folder":
        return ImageFolder(split, root, **arguments)
    dataset = info.open("test" if split == "test" else "train", root, **arguments)
    if validation is None or split == "test":
        return dataset
    training, held_out = _split(name, dataset, validation, split_seed)
    return dataset.select(held_out if split == "validation" else training)


def _split(name: str, dataset: ImageDataset, validation: Validation, seed: int) -> tuple[Tensor, Tensor]:
    if validation != "official":
        return split_indices(dataset.labels, validation, seed)
    if not isinstance(dataset, CelebA):
        raise AbnFastError(f"{name} has no official validation split: give a share, as validation=0.1")
    held_out = dataset.official_validation
    return torch.nonzero(~held_out)[:, 0], torch.nonzero(held_out)[:, 0]
