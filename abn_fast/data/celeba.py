import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._named_rows import NamedRows
from abn_fast.data._problems import Report, refuse
from abn_fast.data.dataset import check_split
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.image_folder import checked_root
from abn_fast.data.preprocessing import IMAGENET, Preprocessing

_LAYOUT = "img_align_celeba/*.jpg, list_attr_celeba.txt and list_eval_partition.txt"
_HOMES = ("", "Anno", "Eval", "Img", "celeba")  # where the archive, or torchvision, puts the files
_TRAIN, _VALIDATION, _TEST = range(3)


class CelebA(ImageFiles):
    """CelebA (Liu et al., ICCV 2015), aligned faces: 202,599 pictures of 178x218, each with 40 attributes.

    The official text files are read, wherever the archive puts them. The training split holds the official training
    and validation parts, 182,637 pictures, as in the paper; the test split the other 19,962. Augmentation is
    mirroring alone: a crop would cut attributes off. The authors' preprocessing was not published; by default the
    picture's shorter side becomes 256 pixels and the middle 224x224 are seen.

    Args:
        split: "train" or "test".
        root: the folder of the official files.
        preprocessing: ImageNet's by default.
        augment: whether to augment.
        augmentation_seed: any integer.
        report: takes each problem of the lists, whose line is then left out; by default it is an error.

    Attributes:
        labels: float32 [N, 40], 1 where the attribute is present.
        official_validation: bool [N], the official validation part; no person is in two parts.
        landmarks: int64 [N, 5, 2], (x, y) of both eyes, nose and both corners of the mouth, in pixels of the
            aligned pictures; None without list_landmarks_align_celeba.txt.
        face_boxes: int64 [N, 4], (x, y, width, height) in pixels of the pictures before their alignment; None
            without list_bbox_celeba.txt.

    Raises:
        AbnFastError: a file is missing, or a line of a list is malformed or names an image that is missing.
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
        root = checked_root(Path(root), "celeba", _LAYOUT)
        folder = _found(root, "img_align_celeba")
        attributes = NamedRows(_found(root, "list_attr_celeba.txt"), report, values={"-1", "1"})
        parts = NamedRows(_found(root, "list_eval_partition.txt"), report, columns=[""], values={"0", "1", "2"})
        names = _complete_names(folder, attributes, parts, report)
        part = parts.rows(names)[:, 0]
        in_split = part == _TEST if split == "test" else part != _TEST
        names = [name for name, chosen in zip(names, in_split, strict=True) if chosen]
        super().__init__(
            [folder / name for name in names],
            torch.from_numpy(attributes.rows(names) == 1).float(),
            attributes.columns,
            preprocessing or IMAGENET,
            augment=augment,
            crop=False,
            augmentation_seed=augmentation_seed,
        )
        self.official_validation = torch.from_numpy(part[in_split] == _VALIDATION)
        landmarks = _optional(root, "list_landmarks_align_celeba.txt", 10, names, report)
        self.landmarks = None if landmarks is None else landmarks.reshape(-1, 5, 2)
        self.face_boxes = _optional(root, "list_bbox_celeba.txt", 4, names, report)

    def _keep(self, chosen: Tensor) -> None:
        super()._keep(chosen)
        self.official_validation = self.official_validation[chosen]
        self.landmarks = None if self.landmarks is None else self.landmarks[chosen]
        self.face_boxes = None if self.face_boxes is None else self.face_boxes[chosen]


def _found(root: Path, name: str) -> Path:
    for home in _homes(root):
        if (home / name).exists():
            return home / name
    raise AbnFastError(f"celeba '{root}' has no {name}: expected {_LAYOUT}")


def _homes(root: Path) -> Iterator[Path]:
    for base in (root, root / "celeba"):
        for home in _HOMES:
            yield base / home


def _complete_names(folder: Path, attributes: NamedRows, parts: NamedRows, report: Report) -> list[str]:
    """The images that have attributes, a part and a file, in the order of the attributes."""
    present = {entry.name for entry in os.scandir(folder)}
    complete = []
    for name in attributes.index:
        if name not in parts.index:
            report(f"{attributes.place(name)}: {name} is not in '{parts.path}'")
        elif name not in present:
            report(f"{attributes.place(name)}: image '{folder / name}' does not exist")
        else:
            complete.append(name)
    for name in parts.index:
        if name not in attributes.index:
            report(f"{parts.place(name)}: {name} is not in '{attributes.path}'")
    return complete


def _optional(root: Path, file: str, width: int, names: list[str], report: Report) -> Tensor | None:
    path = next((home / file for home in _homes(root) if (home / file).is_file()), None)
    if path is None:
        return None
    table = NamedRows(path, report)
    if len(table.columns) != width:
        raise AbnFastError(f"'{path}' has {len(table.columns)} columns: expected {width}")
    if missing := [name for name in names if name not in table.index]:
        report(f"'{path}' has no row of {missing[0]} ({len(missing)} images have none)")
        return None
    return torch.from_numpy(table.rows(names))
