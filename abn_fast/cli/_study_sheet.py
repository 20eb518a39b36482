from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from torch import Tensor

TILE, SEAM, LABEL, TEXT = 96, 4, 150, 12
BOX = (255, 255, 255)


def write_sheet(images: "Tensor", boxes: "Tensor", maps: "dict[str, Tensor]", path: Path) -> None:
    """A column an image, a row a set of maps, each overlay with the image's box; the first row is the images.

    Shapes: images [N, 3, H, W] in [0, 1], boxes [N, 4], maps [N, H, W] in [0, 1], which are shown as they are.
    """
    from abn_fast.explain import overlay
    from abn_fast.explain._files import write_png
    from abn_fast.explain._pixels import to_image
    from abn_fast.explain._text import font

    rows = {"image": images, **{name: overlay(images, each) for name, each in maps.items()}}
    step = TILE + SEAM
    sheet = Image.new("RGB", (LABEL + len(images) * step, len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    scale = TILE / images.shape[3]
    for row, (name, pictures) in enumerate(rows.items()):
        draw.text((4, row * step + TILE / 2), name, font=font(TEXT), fill="black", anchor="lm")
        for column, picture in enumerate(pictures):
            left, top = LABEL + column * step, row * step
            sheet.paste(to_image(picture).resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top))
            x0, y0, x1, y1 = (round(scale * value) for value in boxes[column].tolist())
            draw.rectangle((left + x0, top + y0, left + x1 - 1, top + y1 - 1), outline=BOX)
    write_png(sheet, path)
