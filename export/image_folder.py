from collections.abc import Sequence
from pathlib import Path

from abn_fast._errors import AbnFastError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}


def image_paths(folder: str | Path, purpose: str) -> list[Path]:
    """The image files of a folder, searched through and through, in order of path.

    Raises:
        AbnFastError: no such folder, or no image in it; the message begins with the purpose.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AbnFastError(f"{purpose} {str(folder)!r}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise AbnFastError(f"{purpose} {str(folder)!r}: the folder holds no image file")
    return paths


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the paths, spread over all of them: a sorted folder of classes shows every class."""
    count = min(most, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]
