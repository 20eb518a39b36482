from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast.checkpoints import Checkpoint, read_checkpoint
from abn_fast.explain._seen import Seen, check_names, see
from abn_fast.explain.methods import explain_each
from abn_fast.explain.tile_sheet import Tile, tile_sheet
from abn_fast.explain.upsample import Mode

LAST_FRAMES = 4
"""How many frames long the last one is shown."""


class _Look(NamedTuple):
    """One image at one checkpoint."""

    seen: Seen
    map: Tensor
    """[H, W]."""
    caption: str


def animate_training(
    checkpoints: Sequence[str | Path],
    images: Sequence[str | Path],
    path: str | Path,
    *,
    method: str = "abn",
    tile: int = 224,
    seconds: float = 0.5,
    device: str | torch.device = "cpu",
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> None:
    """Write a GIF of how the maps of images change over training: a frame a checkpoint, in the given order.

    A frame shows each image as its checkpoint's model sees it under the map of the predicted class, with prediction and
    confidence, below the epoch that the checkpoint's metrics name or the file's name. Maps of an image are stretched to
    their range over all frames, so that a map that grows stronger is seen to do so.

    Args:
        checkpoints: of one model at several times, as `save_checkpoint` writes them, with preprocessing.
        images: image files.
        path: of the GIF.
        method: one of `METHODS`.
        tile: width of an image in pixels.
        seconds: how long a frame is shown; the last one longer.
        device: that the models run on.
        mode: how maps are resampled.
        colormap: one of matplotlib's.
        alpha: how much of the map's colour covers the image.

    Raises:
        AbnFastError: no checkpoints or images, any that cannot be read, a method that cannot serve the model, several
            tasks, a GIF that cannot be written.
    """
    if not checkpoints or not images or seconds <= 0:
        raise AbnFastError(
            f"{len(checkpoints)} checkpoints, {len(images)} images, {seconds} seconds: expected 1 or more of each, "
            "and more than 0 seconds"
        )
    titles, looks = [], []
    for name in checkpoints:
        checkpoint = read_checkpoint(name)
        checkpoint.model.to(device)
        epoch = checkpoint.metrics.get("epoch")
        titles.append(Path(name).stem if epoch is None else f"epoch {epoch:g}")
        looks.append([_look(checkpoint, name, image, method, tile, mode) for image in images])
    if len({look.map.shape for row in looks for look in row}) != 1:
        raise AbnFastError("the checkpoints' models take images of different shapes: expected those of one model")
    frames = []
    ranges = [torch.stack([look.map for look in column]).aminmax() for column in zip(*looks, strict=True)]
    for title, row in zip(titles, looks, strict=True):
        tiles = []
        for look, (low, high) in zip(row, ranges, strict=True):
            shown = (look.map - low) / (high - low if high > low else 1)
            tiles.append(Tile(look.seen.under(shown, alpha, colormap), look.caption))
        frames.append(tile_sheet([tiles], [title]))
    _write_gif(frames, Path(path), seconds)


def _look(checkpoint: Checkpoint, name: str | Path, image: str | Path, method: str, tile: int, mode: Mode) -> _Look:
    if checkpoint.preprocessing is None:
        raise AbnFastError(f"{name} does not say how images are preprocessed: save it with preprocessing=...")
    seen = see(image, checkpoint.preprocessing, tile)
    logits, _, maps = explain_each(checkpoint.model, seen.image, [method], mode=mode, size=seen.size)
    if logits.ndim == 3:
        raise AbnFastError(f"{name} has {logits.shape[1]} tasks and a map for each: expected a model of classes")
    names = checkpoint.classes or [f"class {index}" for index in range(logits.shape[1])]
    check_names(names, logits.shape[1])
    confidence, index = logits[0].float().softmax(0).max(0)
    return _Look(seen, maps[method][0].cpu(), f"{names[int(index)]} {float(confidence):.0%}")


def _write_gif(frames: list[Image.Image], path: Path, seconds: float) -> None:
    milliseconds = [round(1000 * seconds)] * len(frames)
    milliseconds[-1] *= LAST_FRAMES

    def write(temporary: Path) -> None:
        first, *others = (frame.quantize(256) for frame in frames)
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise AbnFastError(f"cannot write {path}: {error.strerror or error}") from error
