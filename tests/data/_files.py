"""Small data sets in the formats of the published archives."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GENERATOR = np.random.default_rng(0)
ATTRIBUTES = [f"Attribute_{number}" for number in range(40)]


def write_picture(path: Path, size: tuple[int, int] = (18, 22)) -> Path:
    """Noise, never the same twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GENERATOR.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


CARS = {
    "train": ["78/3/2014/aa.jpg", "78/3/2013/bb.jpg", "5/20/2010/cc.jpg", "78/1001/2014/dd.jpg"],
    "test": ["78/1001/2012/ee.jpg", "5/20/2011/ff.jpg"],
}


def write_compcars(root: Path, lists: dict[str, list[str]] = CARS) -> Path:
    folder = root / "train_test_split" / "classification"
    folder.mkdir(parents=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            write_picture(root / "image" / name)
    return root


def write_car_names(root: Path, makes: Sequence[str], models: Sequence[str]) -> None:
    savemat = pytest.importorskip("scipy.io").savemat

    def cells(names: Sequence[str]) -> np.ndarray:
        column = np.empty((len(names), 1), dtype=object)
        for row, name in enumerate(names):
            column[row, 0] = name if name else np.zeros((0, 0))
        return column

    (root / "misc").mkdir()
    savemat(root / "misc" / "make_model_name.mat", {"make_names": cells(makes), "model_names": cells(models)})


def write_celeba(root: Path, parts: Sequence[int] = (0, 0, 1, 2, 2, 0)) -> np.ndarray:
    """The text files and pictures; returns the attributes, 1 or -1, [N, 40]."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}.jpg" for number in range(1, len(parts) + 1)]
    values = GENERATOR.choice([-1, 1], (len(names), 40))
    rows = [f"{name} " + " ".join(f"{value:2d}" for value in row) for name, row in zip(names, values, strict=True)]
    write_lines(root / "list_attr_celeba.txt", [str(len(names)), " ".join(ATTRIBUTES), *rows])
    write_lines(root / "list_eval_partition.txt", [f"{name} {part}" for name, part in zip(names, parts, strict=True)])
    for name in names:
        write_picture(root / "img_align_celeba" / name)
    return values


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def replace_line(path: Path, number: int, line: str) -> None:
    """Change a line, counted from 1."""
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    write_lines(path, lines)
