from collections.abc import Sequence
from pathlib import Path

import torch

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.data._problems import Report, few, refuse
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.preprocessing import IMAGENET, Preprocessing

_TEST_FOLDERS = ("test", "val", "valid")


class ImageFolder(ImageFiles):
    """Image files in one folder per class.

    Either root/train/<class>/ and root/test/<class>/ (or val, or valid), or root/<class>/, which then serves
    whichever split is asked for. Beside a test folder, val (or valid) is the official validation split. Files are
    found as torchvision's ImageFolder finds them; hidden files and folders are left out. Augmentation is a random
    resized crop and mirroring.

    Args:
        split: "train", "validation" or "test".
        root: the folder.
        preprocessing: ImageNet's by default: 224 pixels, crop_pct 0.875.
        augment: whether to augment.
        augmentation_seed: any integer.
        classes: the names and order of the labels. By default the folder names, sorted, of the training split
            where there is one. Of these, a test split may lack some.
        report: takes each empty or unknown class, which is then left out; by default it is an error.

    Attributes:
        paths: the files, in order.

    Raises:
        AbnFastError: a folder is missing or empty, has no class folders or unknown ones, or a class has no image.
        UnreadableImageError: on access, an image is corrupt or truncated.
    """

    def __init__(
        self,
        split: str,
        root: str | Path,
        *,
        preprocessing: Preprocessing | None = None,
        augment: bool = False,
        augmentation_seed: int = 0,
        classes: Sequence[str] | None = None,
        report: Report = refuse,
    ) -> None:
        checked_choice("split", split, ("train", "validation", "test"))
        folder, training_folder = _split_folders(Path(root), split)
        if classes is None:
            classes = class_names(training_folder)
        paths, labels = class_files(folder, classes, report)
        super().__init__(
            paths,
            labels,
            classes,
            preprocessing or IMAGENET,
            augment=augment,
            augmentation_seed=augmentation_seed,
        )


def _split_folders(root: Path, split: str) -> tuple[Path, Path]:
    """(the folder of the split, the folder whose classes count)."""
    checked_root(root, "image folder", "a folder of class folders")
    training_folder = root / "train"
    if not training_folder.is_dir():
        return root, root
    if split == "train":
        return training_folder, training_folder
    if split == "validation":
        if (folder := validation_folder(root)) is None:
            raise AbnFastError(f"image folder '{root}' has no official validation split: expected train, val and test")
        return folder, training_folder
    if not (folders := _held_out_folders(root)):
        raise AbnFastError(f"image folder '{root}' has a train folder but none of {', '.join(_TEST_FOLDERS)}")
    return folders[0], training_folder


def validation_folder(root: Path) -> Path | None:
    """The folder of the official validation split, which is one beside a test folder."""
    folders = _held_out_folders(root)
    return folders[1] if len(folders) > 1 and folders[0].name == "test" else None


def _held_out_folders(root: Path) -> list[Path]:
    """Those that there are, and of these, if possible, those with class folders (ImageNet's test has none)."""
    folders = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
    return [folder for folder in folders if _subfolders(folder)] or folders


def checked_root(root: Path, name: str, expected: str) -> Path:
    """The folder itself, if it is one."""
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise AbnFastError(f"{name} '{root}' {found}: expected {expected}")
    return root


def class_names(folder: Path) -> list[str]:
    """The names of the class folders, sorted."""
    names = _subfolders(folder)
    if not names:
        raise AbnFastError(f"image folder '{folder}' has no class folders: expected {folder / '<class>' / '<image>'}")
    return names


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def class_files(folder: Path, classes: Sequence[str], report: Report) -> tuple[list[Path], torch.Tensor]:
    """The image files of the class folders and their labels, int64 [N]."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    present = class_names(folder)
    if unknown := sorted(set(present) - set(classes)):
        report(f"image folder '{folder}' has unknown classes {', '.join(unknown)}: expected {few(classes)}")
    samples: list[tuple[str, int]] = make_dataset(
        str(folder),
        {name: label for label, name in enumerate(classes)},
        is_valid_file=lambda path: path.lower().endswith(IMG_EXTENSIONS) and not Path(path).name.startswith("."),
        allow_empty=True,
    )
    filled = {classes[label] for _, label in samples}
    if empty := [name for name in present if name in classes and name not in filled]:
        endings = ", ".join(IMG_EXTENSIONS)
        report(f"image folder '{folder}' has no image in {few(empty)}: expected files ending in {endings}")
    return [Path(path) for path, _ in samples], torch.tensor([label for _, label in samples], dtype=torch.int64)
