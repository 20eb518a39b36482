from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing, load_image
from abn_fast.explain._evaluating import evaluating
from abn_fast.explain._files import output_names, refuse_to_overwrite, write_png
from abn_fast.explain._pixels import to_image, to_tensor
from abn_fast.explain._text import font, shorten
from abn_fast.explain.methods import METHODS, explain_each
from abn_fast.explain.overlay import colorize, overlay, rescale
from abn_fast.explain.upsample import Mode, upsample
from abn_fast.modules import ABNOutput, ImageNetwork

UNSEEN = (128, 128, 128)  # where the model did not look


class Explanation(NamedTuple):
    """What the model says of one image file, and the pictures of it."""

    path: Path
    label: str
    confidence: float
    """Softmax probability of the label, in [0, 1]."""
    files: tuple[Path, ...]
    """NAME-image.png, then map and overlay of each method: NAME-attention.png and NAME-overlay.png of "abn"."""


def explain_image(
    model: nn.Module,
    path: str | Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    *,
    methods: Sequence[str] = ("abn",),
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Explanation:
    """`explain_images` of one image."""
    [explanation] = explain_images(
        model,
        [path],
        preprocessing,
        classes,
        output_folder,
        methods=methods,
        mode=mode,
        colormap=colormap,
        alpha=alpha,
    )
    return explanation


def explain_images(
    model: nn.Module,
    paths: Iterable[str | Path],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    output_folder: str | Path,
    *,
    methods: Sequence[str] = ("abn",),
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Iterator[Explanation]:
    """Classify image files one by one; write each picture, its maps, and overlays with the prediction.

    A generator: each explanation comes once its files are written. The pictures have the size of the upright
    image. The map, stretched to its own range (`rescale`), lies on the rectangle that the model saw
    (`preprocessing.crop_box`); around it the overlay is untinted and the map's picture grey. The overlay
    carries label and confidence as PNG text too, for images too small to write on. Files are named after the
    image's stem, after folder and stem where several images share it; they replace older ones of that name,
    but never one of the images. The methods (see `explain`) explain the predicted class; map and overlay of "abn" are
    called NAME-attention.png and NAME-overlay.png, those of any other NAME-METHOD.png and NAME-METHOD-overlay.png.

    The model runs in evaluation mode on its own device; its training modes are restored. Unreadable images
    are passed over and raised in one error at the end.

    Raises:
        AbnFastError: images that are missing or corrupt, a method that cannot serve the model, several tasks,
            another number of classes than the model's, NaN in its output, an unknown method, mode or colour
            map, files that cannot be written.
    """
    for method in methods:
        checked_choice("method", method, METHODS)
    inputs, kinds = [Path(path) for path in paths], _kinds(methods)
    outputs = [tuple(Path(output_folder, f"{name}-{kind}.png") for kind in kinds) for name in output_names(inputs)]
    refuse_to_overwrite(inputs, chain.from_iterable(outputs))
    unreadable = []
    for path, files in zip(inputs, outputs, strict=True):
        try:
            picture = read_picture(path, preprocessing)
        except AbnFastError as error:
            unreadable.append(str(error))
            continue
        box = _whole(preprocessing.crop_box(*picture.size))
        size = (box[3] - box[1], box[2] - box[0])
        index, confidence, maps = _predict(model, preprocessing(picture), classes, path, methods, size, mode)
        pictures = [picture]
        for values in maps:
            map_picture, overlay_picture = _draw(picture, values, box, colormap, alpha)
            _write_caption(overlay_picture, classes[index], confidence)
            pictures += [map_picture, overlay_picture]
        text = {"Label": classes[index], "Confidence": f"{confidence:.6f}"}
        for position, (each, file) in enumerate(zip(pictures, files, strict=True)):
            write_png(each, file, text if position and position % 2 == 0 else None)
        yield Explanation(path, classes[index], confidence, files)
    if unreadable:
        raise AbnFastError("; ".join(unreadable))


def _kinds(methods: Sequence[str]) -> list[str]:
    names = [("attention", "overlay") if method == "abn" else (method, f"{method}-overlay") for method in methods]
    return ["image", *chain.from_iterable(names)]


def read_picture(path: Path, preprocessing: Preprocessing) -> Image.Image:
    """The upright image in the channels that the model sees, as RGB; of its metadata the RGB profile alone."""
    source = load_image(path)
    try:
        picture = preprocessing.convert(source).convert("RGB")
    except AbnFastError as error:
        raise AbnFastError(f"image '{path}': {error}") from None
    profile = source.info.get("icc_profile") if source.mode in ("RGB", "RGBA", "P") else None
    picture.info = {"icc_profile": profile} if profile else {}
    return picture


def _predict(
    model: nn.Module,
    image: Tensor,
    classes: Sequence[str],
    path: Path,
    methods: Sequence[str],
    size: tuple[int, int],
    mode: Mode,
) -> tuple[int, float, list[Tensor]]:
    """Index of the predicted class, its confidence, and the methods' maps [1, H, W] at this size on the CPU."""
    if isinstance(model, ImageNetwork):
        logits, _, explained = explain_each(model, image[None], methods, mode=mode, size=size)
        maps = [explained[method] for method in methods]
    else:
        logits, maps = _attention(model, image, path, methods, size, mode)
    if logits.ndim == 3:
        raise AbnFastError(f"{type(model).__name__} has {logits.shape[1]} tasks and a map for each; use task_sheet")
    if logits.shape != (1, len(classes)):
        raise AbnFastError(f"{len(classes)} class names for a model of {logits.shape[-1]} classes")
    confidence, index = logits[0].float().softmax(0).max(0)
    if not confidence.isfinite():
        raise AbnFastError(f"the model's output for {path} is NaN or infinite; its weights are damaged")
    return int(index), float(confidence), [values.cpu() for values in maps]


def _attention(
    model: nn.Module, image: Tensor, path: Path, methods: Sequence[str], size: tuple[int, int], mode: Mode
) -> tuple[Tensor, list[Tensor]]:
    """Logits and map of a model from elsewhere that returns what an attention branch network does."""
    state = chain(model.parameters(), model.buffers())
    weight = next((tensor for tensor in state if tensor.is_floating_point()), image)
    with evaluating(model), torch.inference_mode():
        output = model(image[None].to(weight.device, weight.dtype))
    if not isinstance(output, ABNOutput):
        raise AbnFastError(f"{type(model).__name__} is a plain classifier without attention map; use an abn_ model")
    if list(methods) != ["abn"]:
        raise AbnFastError(f"{type(model).__name__} is not a network of abn_fast: of the methods, it has 'abn' alone")
    if not output.attention.isfinite().all():
        raise AbnFastError(f"the model's output for {path} is NaN or infinite; its weights are damaged")
    return output.logits, [upsample(output.attention.float(), size, mode)]


def _whole(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge) for edge in box)
    return left, top, right, bottom


def _draw(
    picture: Image.Image,
    maps: Tensor,
    box: tuple[int, int, int, int],
    colormap: str,
    alpha: float,
) -> tuple[Image.Image, Image.Image]:
    """The coloured map and the overlay, with the map [1, H, W] on `box` = (left, top, right, bottom) of the picture."""
    left, top, right, bottom = box
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    maps = rescale(maps[:, y0 - top : y1 - top, x0 - left : x1 - left])
    seen = to_tensor(picture.crop((x0, y0, x1, y1)))

    map_picture = Image.new("RGB", picture.size, UNSEEN)
    map_picture.paste(to_image(colorize(maps, colormap)[0]), (x0, y0))
    overlay_picture = picture.copy()
    overlay_picture.paste(to_image(overlay(seen[None], maps, alpha, colormap)[0]), (x0, y0))
    return map_picture, overlay_picture


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
