from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.data._problems import Report, read_lines, refuse
from abn_fast.data.dataset import check_split
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.image_folder import checked_root
from abn_fast.data.preprocessing import IMAGENET, Preprocessing

_LAYOUT = "image/MAKE/MODEL/YEAR/*.jpg and train_test_split/classification/{train,test}.txt"


class CompCars(ImageFiles):
    """CompCars (Yang et al., CVPR 2015), photographs of whole cars, in the layout of the official archive.

    The classes are those of the training list, ordered by their number in the archive, and named by
    misc/make_model_name.mat where that file and scipy are there, else by the number. The official lists are not
    the split of the ABN paper (36,451 and 15,626 images), which was not published.

    Args:
        split: "train" or "test".
        root: the folder of image/ and train_test_split/, or the one that holds them in data/.
        target: the class of a picture: "model" or "make".
        preprocessing: ImageNet's by default.
        augment: whether to augment: a random resized crop and mirroring.
        augmentation_seed: any integer.
        report: takes each problem of the lists, whose line is then left out; by default it is an error.

    Raises:
        AbnFastError: a folder or a list is missing, or a line of a list is not MAKE/MODEL/YEAR/NAME.jpg, names an
            image that is missing or a class that was never trained.
        UnreadableImageError: on access, an image is corrupt or truncated.
    """

    def __init__(
        self,
        split: str,
        root: str | Path,
        *,
        target: Literal["model", "make"] = "model",
        preprocessing: Preprocessing | None = None,
        augment: bool = False,
        augmentation_seed: int = 0,
        report: Report = refuse,
    ) -> None:
        check_split(split)
        checked_choice("target", target, ("model", "make"))
        folder = checked_root(Path(root), "compcars", _LAYOUT)
        folder = folder if (folder / "image").is_dir() else folder / "data"
        checked_root(folder / "image", "compcars", _LAYOUT)
        training = _read_list(folder, "train", report)
        numbers = sorted({car.number(target) for car in training})
        cars = training if split == "train" else _known(_read_list(folder, "test", report), numbers, target, report)
        label_of = {number: label for label, number in enumerate(numbers)}
        super().__init__(
            [car.path for car in cars],
            torch.tensor([label_of[car.number(target)] for car in cars], dtype=torch.int64),
            _names(folder, numbers, target),
            preprocessing or IMAGENET,
            augment=augment,
            augmentation_seed=augmentation_seed,
        )


class _Car(NamedTuple):
    path: Path
    make: int
    model: int
    place: str  # list and line

    def number(self, target: str) -> int:
        return self.make if target == "make" else self.model


def _read_list(folder: Path, split: str, report: Report) -> list[_Car]:
    path = folder / "train_test_split" / "classification" / f"{split}.txt"
    if not path.is_file():
        raise AbnFastError(f"compcars has no list '{path}': expected {_LAYOUT}")
    cars: list[_Car] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        name, place = line.strip(), f"'{path}', line {number}"
        if not name:
            continue
        parts = name.split("/")
        if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            report(f"{place}: {name!r} is not MAKE/MODEL/YEAR/NAME.jpg")
        elif name in lines:
            report(f"{place}: '{name}' stands in line {lines[name]} too")
        elif not (folder / "image" / name).is_file():
            report(f"{place}: image '{folder / 'image' / name}' does not exist")
        else:
            cars.append(_Car(folder / "image" / name, int(parts[0]), int(parts[1]), place))
        lines.setdefault(name, number)
    if not cars:
        raise AbnFastError(f"compcars list '{path}' names no image that is there")
    return cars


def _known(cars: list[_Car], numbers: Sequence[int], target: str, report: Report) -> list[_Car]:
    known = set(numbers)
    for car in cars:
        if car.number(target) not in known:
            report(f"{car.place}: {target} {car.number(target)} has no image in the training list")
    return [car for car in cars if car.number(target) in known]


def _names(folder: Path, numbers: Sequence[int], target: str) -> list[str]:
    """Names of the classes, made unique by their numbers where two are equal."""
    table = _name_table(folder / "misc" / "make_model_name.mat", target)
    names = [table[number - 1] if 0 < number <= len(table) else "" for number in numbers]
    return [
        name if name and names.count(name) == 1 else f"{name} {number}".strip()
        for name, number in zip(names, numbers, strict=True)
    ]


def _name_table(path: Path, target: str) -> list[str]:
    """The name of every number from 1 on, "" where there is none; a cell array of strings in the file."""
    if not path.is_file():
        return []
    try:
        read = require("scipy.io", extra="data", purpose="names of CompCars").loadmat
    except AbnFastError:
        return []
    try:
        cells = read(path)[f"{target}_names"].ravel()
    except Exception as error:  # scipy raises of any kind, by what is broken
        raise AbnFastError(f"compcars names '{path}' cannot be read: {' '.join(str(error).split())}") from None
    return [str(cell.item()).strip() if getattr(cell, "size", 0) == 1 else "" for cell in cells]
