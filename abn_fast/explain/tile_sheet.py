from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from abn_fast._errors import AbnFastError
from abn_fast.explain._text import font, shorten

INK, GREY = (20, 20, 20), (110, 110, 110)
TEXT, LINE = 13, 22  # heights in pixels
GAP, MARGIN = 6, 14  # between tiles, around the sheet


class Tile(NamedTuple):
    """A picture and the line under it."""

    picture: Image.Image
    caption: str = ""


def tile_sheet(rows: Sequence[Sequence[Tile]], headings: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures of one size on white, each above its caption, columns under their headings.

    A row without any caption takes no line for it; text wider than its tile is shortened.

    Raises:
        AbnFastError: no picture, or pictures of several sizes.
    """
    sizes = {tile.picture.size for row in rows for tile in row}
    if len(sizes) != 1:
        raise AbnFastError(f"pictures of sizes {sorted(sizes)}: expected one or more pictures, all of one size")
    [(width, height)] = sizes
    columns = max(len(headings), *(len(row) for row in rows))
    lines = [LINE if any(tile.caption for tile in row) else GAP for row in rows]
    top = MARGIN + (LINE if headings else 0)
    size = (2 * MARGIN + columns * (width + GAP) - GAP, top + sum(height + line for line in lines) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, typeface = ImageDraw.Draw(sheet), font(TEXT)

    def write(text: str, column: int, middle: float, colour: tuple[int, int, int]) -> None:
        centre = MARGIN + column * (width + GAP) + width / 2
        draw.text((centre, middle), shorten(text, width, typeface), font=typeface, fill=colour, anchor="mm")

    for column, heading in enumerate(headings):
        write(heading, column, MARGIN + LINE / 2 - 3, GREY)
    for row, line in zip(rows, lines, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile.picture, (MARGIN + column * (width + GAP), top))
            write(tile.caption, column, top + height + LINE / 2, INK)
        top += height + line
    return sheet
