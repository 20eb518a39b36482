from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast.data._problems import Report, refuse
from abn_fast.data.dataset import check_split
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.image_folder import checked_root, class_files, class_names
from abn_fast.data.preprocessing import IMAGENET, Preprocessing

_SYNSETS = 1000
_SYNSETS_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # of the sorted ids, a line each

_LAYOUT = "train/n01440764/*.JPEG and val/n01440764/*.JPEG"


class ImageNet(ImageFiles):
    """ImageNet (ILSVRC 2012; Russakovsky et al., 2015): 1,281,167 and 50,000 photographs of 1,000 classes.

    The usual layout, root/train/n01440764/*.JPEG and root/val/n01440764/*.JPEG, with the validation images as the
    test split (the labels of the true one are not public). Classes are numbered by their sorted WordNet ids and
    named as in torchvision, the order of all published weights. Augmentation is a random resized crop and mirroring.

    Args:
        split: "train" or "test"; each needs its own folder alone.
        root: the folder of train/ and val/.
        preprocessing: 224 pixels, crop_pct 0.875 by default.
        augment: whether to augment.
        augmentation_seed: any integer.
        report: takes each problem of the layout; by default it is an error.

    Attributes:
        wordnet_ids: of the classes, in the order of the labels.

    Raises:
        AbnFastError: a folder is missing, or its class folders are not the 1,000.
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
        report: Report = refuse,
    ) -> None:
        check_split(split)
        folder = checked_root(Path(root), "imagenet", _LAYOUT) / ("train" if split == "train" else "val")
        self.wordnet_ids = _wordnet_ids(checked_root(folder, "imagenet", _LAYOUT), report)
        paths, labels = class_files(folder, self.wordnet_ids, report)
        super().__init__(
            paths,
            labels,
            _names(self.wordnet_ids),
            preprocessing or IMAGENET,
            augment=augment,
            augmentation_seed=augmentation_seed,
        )


def _wordnet_ids(folder: Path, report: Report) -> list[str]:
    try:
        ids = class_names(folder)
    except AbnFastError:
        raise AbnFastError(
            f"imagenet '{folder}' has no class folders: expected {folder / 'n01440764' / '*.JPEG'} (the archive of "
            "the validation images has none: sort them into folders of their WordNet ids)"
        ) from None
    if not _complete(ids):
        count = f"{len(ids)} class folders" if len(ids) != _SYNSETS else "class folders with other names"
        report(
            f"imagenet '{folder}' has {count}: expected the 1000 of ILSVRC 2012, n01440764 to n15075141; "
            "a part of ImageNet is opened as image-folder"
        )
    return ids


def _complete(ids: Sequence[str]) -> bool:
    return sha256("\n".join(ids).encode()).hexdigest() == _SYNSETS_SHA256


def _names(ids: Sequence[str]) -> list[str]:
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"]) if _complete(ids) else list(ids)
