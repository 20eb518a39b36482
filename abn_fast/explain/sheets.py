from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import nn

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.explain._seen import check_names, see
from abn_fast.explain.methods import METHODS, explain_each, methods_of, top_class_evidence
from abn_fast.explain.methods.table import checked_network
from abn_fast.explain.overlay import rescale
from abn_fast.explain.tile_sheet import Tile, tile_sheet
from abn_fast.explain.upsample import Mode


def method_sheet(
    model: nn.Module,
    paths: Iterable[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    methods: Sequence[str] | None = None,
    *,
    tile: int = 160,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Image.Image:
    """Methods side by side: a row an image, a column a method, the prediction under the image.

    Each tile shows what the model sees of the image. Maps explain the predicted class, each stretched to its own range
    (`rescale`). By default, all methods that can serve the model.

    Raises:
        AbnFastError: as `explain`; an image that cannot be read, several tasks, another number of classes than the
            model's.
    """
    methods = methods_of(model) if methods is None else methods
    rows = []
    for path in paths:
        seen = see(path, preprocessing, tile)
        logits, _, maps = explain_each(model, seen.image, methods, mode=mode, size=seen.size)
        if logits.ndim == 3:
            raise AbnFastError(f"{type(model).__name__} has {logits.shape[1]} tasks and a map for each; use task_sheet")
        check_names(classes, logits.shape[1])
        confidence, index = logits[0].float().softmax(0).max(0)
        shown = [Tile(seen.under(rescale(maps[method])[0], alpha, colormap)) for method in methods]
        rows.append([Tile(seen.tile, f"{classes[int(index)]} {float(confidence):.0%}"), *shown])
    return tile_sheet(rows, ["image", *(METHODS[method].title for method in methods)])


def class_evidence_sheet(
    model: nn.Module,
    paths: Iterable[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    count: int = 5,
    *,
    tile: int = 160,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Image.Image:
    """Where the attention branch finds each of the likeliest classes: a row an image, with name and confidence.

    The maps of an image share one scale, that of `top_class_evidence`.

    Raises:
        AbnFastError: as `top_class_evidence`; an image that cannot be read, another number of classes than the model's.
    """
    check_names(classes, checked_network(model).num_classes)
    rows = []
    for path in paths:
        seen = see(path, preprocessing, tile)
        evidence = top_class_evidence(model, seen.image, min(count, len(classes)), mode=mode, size=seen.size)
        row = [Tile(seen.tile)]
        for index, confidence, values in zip(*(each[0] for each in evidence), strict=True):
            row.append(Tile(seen.under(values, alpha, colormap), f"{classes[int(index)]} {float(confidence):.0%}"))
        rows.append(row)
    return tile_sheet(rows)


def task_sheet(
    model: nn.Module,
    paths: Iterable[str | Path],
    preprocessing: Preprocessing,
    tasks: Sequence[str],
    method: str = "abn",
    *,
    columns: int = 8,
    tile: int = 120,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Image.Image:
    """The map of every task of a multi-task network, under each the task, its answer and the confidence in it.

    Each image is followed by its tasks, `columns` tiles a row. Each map is stretched to its own range (`rescale`).

    Raises:
        AbnFastError: as `explain`; an image that cannot be read, a model of one task, another number of tasks than its.
    """
    if columns < 1:
        raise AbnFastError(f"columns={columns}: expected 1 or more")
    rows = []
    for path in paths:
        seen = see(path, preprocessing, tile)
        logits, _, maps = explain_each(model, seen.image, [method], mode=mode, size=seen.size)
        if logits.ndim != 3:
            raise AbnFastError(f"{type(model).__name__} has classes and no tasks; use method_sheet")
        check_names(tasks, logits.shape[1], "tasks")
        confidences, answers = logits[0].float().softmax(1).max(1)
        tiles = [Tile(seen.tile, Path(path).name)]
        for name, confidence, answer, values in zip(tasks, confidences, answers, rescale(maps[method][0]), strict=True):
            said = f"{name}: {('no', 'yes')[int(answer)]} {float(confidence):.0%}"
            tiles.append(Tile(seen.under(values, alpha, colormap), said))
        rows += [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return tile_sheet(rows)
