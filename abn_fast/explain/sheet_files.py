from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from abn_fast.data import Preprocessing
from abn_fast.explain._files import output_names, refuse_to_overwrite, write_png
from abn_fast.explain.sheets import class_evidence_sheet, method_sheet, task_sheet
from abn_fast.explain.upsample import Mode

IMAGES_ON_A_SHEET = 20


def write_method_sheets(
    model: nn.Module,
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    methods: Sequence[str] | None = None,
    *,
    mode: Mode = "bilinear",
    colormap: str = "jet",
) -> Iterator[Path]:
    """`method_sheet` of all images as methods.png, methods-2.png and so on, each file once it is written.

    Raises:
        AbnFastError: as `method_sheet`; a file that cannot be written or is one of the images.
    """
    inputs = [Path(path) for path in paths]
    pages = [inputs[start : start + IMAGES_ON_A_SHEET] for start in range(0, len(inputs), IMAGES_ON_A_SHEET)]
    names = ["methods", *(f"methods-{number}" for number in range(2, len(pages) + 1))]
    files = [Path(output_folder, f"{name}.png") for name in names]
    refuse_to_overwrite(inputs, files)
    for page, file in zip(pages, files, strict=True):
        write_png(method_sheet(model, page, preprocessing, classes, methods, mode=mode, colormap=colormap), file)
        yield file


def write_class_evidence_sheets(
    model: nn.Module,
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    count: int = 5,
    *,
    mode: Mode = "bilinear",
    colormap: str = "jet",
) -> Iterator[Path]:
    """`class_evidence_sheet` of each image as NAME-classes.png, each file once it is written.

    Raises:
        AbnFastError: as `class_evidence_sheet`; a file that cannot be written or is one of the images.
    """
    for path, file in _named(paths, output_folder, "classes"):
        sheet = class_evidence_sheet(model, [path], preprocessing, classes, count, mode=mode, colormap=colormap)
        write_png(sheet, file)
        yield file


def write_task_sheets(
    model: nn.Module,
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    tasks: Sequence[str],
    output_folder: str | Path,
    method: str = "abn",
    *,
    mode: Mode = "bilinear",
    colormap: str = "jet",
) -> Iterator[Path]:
    """`task_sheet` of each image as NAME-tasks.png, or NAME-METHOD-tasks.png, each file once it is written.

    Raises:
        AbnFastError: as `task_sheet`; a file that cannot be written or is one of the images.
    """
    for path, file in _named(paths, output_folder, "tasks" if method == "abn" else f"{method}-tasks"):
        write_png(task_sheet(model, [path], preprocessing, tasks, method, mode=mode, colormap=colormap), file)
        yield file


def _named(paths: Sequence[str | Path], folder: str | Path, kind: str) -> list[tuple[Path, Path]]:
    inputs = [Path(path) for path in paths]
    files = [Path(folder, f"{name}-{kind}.png") for name in output_names(inputs)]
    refuse_to_overwrite(inputs, files)
    return list(zip(inputs, files, strict=True))
