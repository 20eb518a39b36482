import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing, load_image
from abn_fast.explain._files import output_names, write_png
from abn_fast.explain._pixels import to_image, to_tensor
from abn_fast.explain._text import font, shorten
from abn_fast.explain.overlay import colorize, overlay, rescale
from abn_fast.explain.upsample import Mode, upsample
from abn_fast.modules import ABNOutput

KINDS = ("image", "attention", "overlay")
UNSEEN = (128, 128, 128)  # where the model did not look


class Explanation(NamedTuple):
    """What the model says of one image file, and the pictures of it."""

    path: Path
    label: str
    confidence: float
    """Softmax probability of the label, in [0, 1]."""
    files: tuple[Path, ...]
    """NAME-image.png, NAME-attention.png and NAME-overlay.png."""


def explain_image(
    model: nn.Module,
    path: str | Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    *,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Explanation:
    """`explain_images` of one image."""
    [explanation] = explain_images(
        model, [path], preprocessing, classes, output_folder, mode=mode, colormap=colormap, alpha=alpha
    )
    return explanation


def explain_images(
    model: nn.Module,
    paths: Iterable[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    *,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Iterator[Explanation]:
    """Classify image files one by one; write each picture, its map, and the overlay with the prediction.

    A generator: each explanation comes once its files are written. The pictures have the size of the upright
    image. The map, stretched to its own range (`rescale`), lies on the rectangle that the model saw
    (`preprocessing.crop_box`); around it the overlay is untinted and the map's picture grey. The overlay
    carries label and confidence as PNG text too, for images too small to write on. Files are named after the
    image's stem, after folder and stem where several images share it; they replace older ones of that name,
    but never one of the images.

    The model runs in evaluation mode on its own device; its training modes are restored. Unreadable images
    are passed over and raised in one error at the end.

    Raises:
        AbnFastError: images that are missing or corrupt, a model without attention map, another number of
            classes than the model's, NaN in its output, an unknown mode or colour map, files that cannot be
            written.
    """
    inputs = [Path(path) for path in paths]
    outputs = [tuple(Path(output_folder, f"{name}-{kind}.png") for kind in KINDS) for name in output_names(inputs)]
    _refuse_to_overwrite(inputs, outputs)
    unreadable = []
    for path, files in zip(inputs, outputs, strict=True):
        try:
            picture = _read(path, preprocessing)
        except AbnFastError as error:
            unreadable.append(str(error))
            continue
        index, confidence, attention = _predict(model, preprocessing(picture), classes, path)
        box = preprocessing.crop_box(*picture.size)
        attention_picture, overlay_picture = _draw(picture, attention, box, mode, colormap, alpha)
        _write_caption(overlay_picture, classes[index], confidence)
        write_png(picture, files[0])
        write_png(attention_picture, files[1])
        write_png(overlay_picture, files[2], {"Label": classes[index], "Confidence": f"{confidence:.6f}"})
        yield Explanation(path, classes[index], confidence, files)
    if unreadable:
        raise AbnFastError("; ".join(unreadable))


def _refuse_to_overwrite(inputs: list[Path], outputs: list[tuple[Path, ...]]) -> None:
    images = {path.resolve() for path in inputs}
    for file in chain.from_iterable(outputs):
        if file.resolve() in images:
            raise AbnFastError(f"the pictures would overwrite the image {file}; choose another output folder")


def _read(path: Path, preprocessing: Preprocessing) -> Image.Image:
    """The upright image in the channels that the model sees, as RGB; of its metadata the RGB profile alone."""
    source = load_image(path)
    try:
        picture = preprocessing.convert(source).convert("RGB")
    except AbnFastError as error:
        raise AbnFastError(f"image '{path}': {error}") from None
    profile = source.info.get("icc_profile") if source.mode in ("RGB", "RGBA", "P") else None
    picture.info = {"icc_profile": profile} if profile else {}
    return picture


def _predict(model: nn.Module, image: Tensor, classes: Sequence[str], path: Path) -> tuple[int, float, Tensor]:
    """Index of the predicted class, its confidence, and the map [1, 1, h, w] on the CPU."""
    state = chain(model.parameters(), model.buffers())
    weight = next((tensor for tensor in state if tensor.is_floating_point()), image)
    with _evaluating(model), torch.inference_mode():
        output = model(image[None].to(weight.device, weight.dtype))
    if not isinstance(output, ABNOutput):
        raise AbnFastError(f"{type(model).__name__} is a plain classifier without attention map; use an abn_ model")
    if output.logits.shape != (1, len(classes)):
        raise AbnFastError(f"{len(classes)} class names for a model of {output.logits.shape[-1]} classes")
    confidence, index = output.logits[0].float().softmax(0).max(0)
    attention = output.attention.float().cpu()
    if not (confidence.isfinite() and attention.isfinite().all()):
        raise AbnFastError(f"the model's output for {path} is NaN or infinite; its weights are damaged")
    return int(index), float(confidence), attention


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _draw(
    picture: Image.Image,
    attention: Tensor,
    box: tuple[float, float, float, float],
    mode: Mode,
    colormap: str,
    alpha: float,
) -> tuple[Image.Image, Image.Image]:
    """The coloured map and the overlay, with the map on `box` = (left, top, right, bottom) of the picture."""
    left, top, right, bottom = (round(edge) for edge in box)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    maps = upsample(attention, (bottom - top, right - left), mode)  # [1, H, W]
    maps = rescale(maps[:, y0 - top : y1 - top, x0 - left : x1 - left])
    seen = to_tensor(picture.crop((x0, y0, x1, y1)))

    attention_picture = Image.new("RGB", picture.size, UNSEEN)
    attention_picture.paste(to_image(colorize(maps, colormap)[0]), (x0, y0))
    overlay_picture = picture.copy()
    overlay_picture.paste(to_image(overlay(seen[None], maps, alpha, colormap)[0]), (x0, y0))
    return attention_picture, overlay_picture


def _write_caption(picture: Image.Image, label: str, confidence: float) -> None:
    """Write label and confidence into the lower left corner, unless the picture is too small for them."""
    size = max(8, round(0.045 * min(picture.size)))
    typeface, margin, band = font(size), round(0.4 * size), round(1.6 * size)
    room = picture.width - 2 * margin
    tail = f"{confidence:.1%}" if picture.width >= 160 else f"{confidence:.0%}"
    text = f"{shorten(label, room - typeface.getlength(f'  {tail}'), typeface)}  {tail}".strip()
    if typeface.getlength(text) > room or 2 * band > picture.height:
        return
    draw = ImageDraw.Draw(picture, "RGBA")
    right = round(typeface.getlength(text)) + 2 * margin
    draw.rectangle((0, picture.height - band, right, picture.height), fill=(0, 0, 0, 170))
    draw.text((margin, picture.height - band / 2), text, font=typeface, fill="white", anchor="lm")
