from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.data._torchvision import cifar, svhn
from abn_fast.data.dataset import ImageDataset
from abn_fast.data.digits_in_the_wild import DigitsInTheWild
from abn_fast.data.image_folder import ImageFolder
from abn_fast.data.preprocessing import Preprocessing

_OWN_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "cifar10": (),
    "cifar100": (),
    "digits-in-the-wild": ("size", "seed", "image_size"),
    "image-folder": ("classes",),
    "svhn": (),
}


def list_datasets() -> list[str]:
    """The names that `create_dataset` knows."""
    return list(_OWN_ARGUMENTS)


def create_dataset(
    name: str,
    split: str,
    root: str | Path = "data",
    augment: bool = False,
    preprocessing: Preprocessing | None = None,
    download: bool = False,
    *,
    augmentation_seed: int = 0,
    **arguments: Any,
) -> ImageDataset:
    """Open a data set by name.

    Args:
        name: one of `list_datasets()`.
        split: "train" or "test".
        root: where the files are; digits-in-the-wild needs none.
        augment: whether to augment: pad by 4 pixels and crop (and mirror, for CIFAR), or for folders a random
            resized crop and mirroring.
        preprocessing: in place of the data set's own.
        download: whether CIFAR and SVHN may be downloaded to `root` if they are not there.
        augmentation_seed: any integer.
        arguments: of the data set: size, seed and image_size for digits-in-the-wild, classes for image-folder.

    Raises:
        AbnFastError: the name, the split or an argument is unknown, or the files are missing or corrupt.
    """
    if name not in _OWN_ARGUMENTS:
        raise AbnFastError(f"data set {name!r} is unknown: expected one of {', '.join(_OWN_ARGUMENTS)}")
    own = _OWN_ARGUMENTS[name]
    if unknown := [argument for argument in arguments if argument not in own]:
        raise AbnFastError(f"{name} has no argument {', '.join(unknown)}: expected {', '.join(own) or 'none'}")
    arguments |= {"augment": augment, "preprocessing": preprocessing, "augmentation_seed": augmentation_seed}
    if name == "digits-in-the-wild":
        return DigitsInTheWild(split, **arguments)
    if name == "image-folder":
        if download:
            raise AbnFastError("image-folder has nothing to download: point root at a folder of class folders")
        return ImageFolder(split, root, **arguments)
    if name == "svhn":
        return svhn(split, root, download=download, **arguments)
    return cifar(name, split, root, download=download, **arguments)
