from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._augmentation import RESIZED_CROP_TRIES, resized_crop_box
from abn_fast.data._image_file import load_image
from abn_fast.data.dataset import ImageDataset, check_split
from abn_fast.data.preprocessing import IMAGENET, Preprocessing

_TEST_FOLDERS = ("val", "test", "valid")


class ImageFolder(ImageDataset):
    """Image files in one folder per class.

    Either root/train/<class>/ and root/val/<class>/ (or test, or valid; the first that exists), or
    root/<class>/, which then serves whichever split is asked for. Files are found as torchvision's ImageFolder
    finds them; hidden files and folders are left out. Augmentation is a random resized crop and mirroring.

    Args:
        split: "train" or "test".
        root: the folder.
        preprocessing: ImageNet's by default: 224 pixels, crop_pct 0.875.
        augment: whether to augment.
        augmentation_seed: any integer.
        classes: the names and order of the labels. By default the folder names, sorted, of the training split
            where there is one. Of these, a test split may lack some.

    Attributes:
        paths: the files, in order.
        labels: int64 [N].

    Raises:
        AbnFastError: a folder is missing or empty, has no class folders or unknown ones, or a class has no image;
            on access, an image is corrupt or truncated.
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
    ) -> None:
        check_split(split)
        folder, training_folder = _split_folders(Path(root), split)
        if classes is None:
            classes = _class_names(training_folder)
        if preprocessing is None:
            preprocessing = IMAGENET
        super().__init__(classes, preprocessing, augment=augment, augmentation_seed=augmentation_seed)
        samples = _samples(folder, self.classes)
        self.paths = [Path(path) for path, _ in samples]
        self.labels = torch.tensor([label for _, label in samples])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = load_image(self.paths[index])
        label = int(self.labels[index])
        if not self.augment:
            return self.preprocessing(image), label
        draws = self._draws([index % len(self)], 4 * RESIZED_CROP_TRIES + 1)[0]
        box = resized_crop_box(*image.size, draws[1:].reshape(RESIZED_CROP_TRIES, 4))
        height, width = self.preprocessing.image_size
        image = self.preprocessing.convert(image)
        image = image.resize((width, height), self.preprocessing.resampling, box=box)
        if draws[0] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self.preprocessing.to_tensor(image), label


def _split_folders(root: Path, split: str) -> tuple[Path, Path]:
    """(the folder of the split, the folder whose classes count)."""
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise AbnFastError(f"image folder '{root}' {found}: expected a folder of class folders")
    training_folder = root / "train"
    if not training_folder.is_dir():
        return root, root
    if split == "train":
        return training_folder, training_folder
    for name in _TEST_FOLDERS:
        if (root / name).is_dir():
            return root / name, training_folder
    raise AbnFastError(f"image folder '{root}' has a train folder but none of {', '.join(_TEST_FOLDERS)}")


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise AbnFastError(f"image folder '{folder}' has no class folders: expected {folder / '<class>' / '<image>'}")
    return names


def _samples(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    present = _class_names(folder)
    if unknown := sorted(set(present) - set(classes)):
        raise AbnFastError(
            f"image folder '{folder}' has unknown classes {', '.join(unknown)}: expected {_few(classes)}"
        )
    samples: list[tuple[str, int]] = make_dataset(
        str(folder),
        {name: label for label, name in enumerate(classes)},
        is_valid_file=lambda path: path.lower().endswith(IMG_EXTENSIONS) and not Path(path).name.startswith("."),
        allow_empty=True,
    )
    filled = {classes[label] for _, label in samples}
    if empty := [name for name in present if name not in filled]:
        raise AbnFastError(
            f"image folder '{folder}' has no image in {_few(empty)}: expected files ending in "
            f"{', '.join(IMG_EXTENSIONS)}"
        )
    return samples


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
