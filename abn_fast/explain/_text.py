import functools
from pathlib import Path

from PIL import ImageFont

ELLIPSIS = "…"


@functools.lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib carries it, `size` pixels high."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def shorten(text: str, width: float, typeface: ImageFont.FreeTypeFont) -> str:
    """`text` as one line of at most `width` pixels: its end becomes an ellipsis, or nothing is left of it."""
    text = " ".join(text.split())
    if typeface.getlength(text) <= width:
        return text
    while text and typeface.getlength(text + ELLIPSIS) > width:
        text = text[:-1].rstrip()
    return text + ELLIPSIS if text else ""
