from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_images
from abn_fast.explain._pixels import to_image, to_tensor
from abn_fast.explain._text import font, shorten
from abn_fast.explain.overlay import colorize, overlay, rescale
from abn_fast.explain.upsample import Mode, upsample

HEADINGS = ("image", "attention", "overlay")
GREY, GREEN, RED = (110, 110, 110), (0, 120, 60), (200, 30, 30)
MARKS = ("✗", "✓")
LEVELS = [round(round(value / 255 * 63) * 255 / 63) for value in range(256)]  # a third less to store
TEXT, LINE = 12, 21  # heights in pixels
SEAM, MARGIN = 2, 16  # between the tiles of an image, around the images


def contact_sheet(
    images: Tensor,
    maps: Tensor,
    labels: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    *,
    columns: int = 4,
    tile: int = 80,
    mode: Mode = "bilinear",
    colormap: str = "jet",
    alpha: float = 0.5,
) -> Image.Image:
    """One picture of many images, each beside its map and overlay, above label, prediction and confidence.

    The caption is green where the prediction equals the label, red where not. Each map is stretched to its
    own range (`rescale`).

    Shapes: images [N, 3, H, W] in [0, 1], maps [N, 1, h, w] or [N, h, w] of any range and size; N labels (the
    truth), predictions and confidences in [0, 1]. `columns` images stand in a row; each of their three tiles
    is `tile` pixels wide.

    Raises:
        AbnFastError: no images, lengths that differ, images outside [0, 1], NaN, an unknown mode or colour
            map.
    """
    check_images(images)
    n = len(images)
    if n == 0 or columns < 1 or tile < 16:
        raise AbnFastError(
            f"{n} images, {columns} columns, tile {tile}: expected 1 image, 1 column and 16 pixels or more"
        )
    if not len(maps) == len(labels) == len(predictions) == len(confidences) == n:
        raise AbnFastError(
            f"{n} images, {len(maps)} maps, {len(labels)} labels, {len(predictions)} predictions and "
            f"{len(confidences)} confidences: expected as many of each"
        )
    size = (max(1, round(tile * images.shape[2] / images.shape[3])), tile)
    shown = rescale(upsample(maps, size, mode)).cpu()
    colours = colorize(shown, colormap)
    cells = []
    for index, image in enumerate(images):
        enlarged = to_image(image).resize(size[::-1], Image.Resampling.BICUBIC)
        blended = overlay(to_tensor(enlarged)[None], shown[index : index + 1], alpha, colormap)[0]
        cell = _row([enlarged, to_image(colours[index]), to_image(blended)])
        cells.append(_captioned(cell, labels[index], predictions[index], confidences[index]))
    return _grid(cells, min(columns, n))


def _row(tiles: list[Image.Image]) -> Image.Image:
    """The tiles side by side, above a white line for the caption."""
    width, height = tiles[0].size
    row = Image.new("RGB", (len(tiles) * (width + SEAM) - SEAM, height + LINE), "white")
    for position, tile in enumerate(tiles):
        row.paste(tile, (position * (width + SEAM), 0))
    return row


def _captioned(cell: Image.Image, label: str, prediction: str, confidence: float) -> Image.Image:
    correct = label == prediction
    typeface, colour = font(TEXT), GREEN if correct else RED
    draw, baseline = ImageDraw.Draw(cell), cell.height - LINE / 2 + 1
    share = f"{confidence:.0%}"
    text = f"{MARKS[correct]} {prediction}" if correct else f"{MARKS[correct]} {prediction} (true: {label})"
    text = shorten(text, cell.width - typeface.getlength(f" {share}"), typeface)
    draw.text((0, baseline), text, font=typeface, fill=colour, anchor="lm")
    draw.text((cell.width, baseline), share, font=typeface, fill=colour, anchor="rm")
    return cell


def _grid(cells: list[Image.Image], columns: int) -> Image.Image:
    """The cells in rows on white, each column under its headings."""
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN + LINE), "white")
    draw, step = ImageDraw.Draw(sheet), (width + SEAM) / len(HEADINGS)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        left = MARGIN + column * (width + MARGIN)
        sheet.paste(cell, (left, MARGIN + LINE + row * (height + MARGIN)))
        if row == 0:
            for position, heading in enumerate(HEADINGS):
                centre = (left + (position + 0.5) * step - SEAM / 2, MARGIN + LINE / 2)
                draw.text(centre, heading, font=font(TEXT), fill=GREY, anchor="mm")
    return sheet.point(LEVELS * 3)
