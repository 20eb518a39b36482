from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

from PIL import Image, PngImagePlugin

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically


def write_png(image: Image.Image, path: Path, text: dict[str, str] | None = None) -> None:
    """Write a PNG that appears whole or not at all, making its folder; `text` goes into its text chunks.

    Raises:
        AbnFastError: the file cannot be written.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    try:
        write_atomically(path, lambda temporary: image.save(temporary, format="PNG", pnginfo=chunks))
    except OSError as error:
        raise AbnFastError(f"cannot write {path}: {error.strerror or error}") from error


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its stem, or folder-stem where several share the stem, numbered if that is taken.

    No two are alike, even where the file system ignores case.
    """
    stems = [path.stem.casefold() for path in paths]
    taken: set[str] = set()
    names = []
    for path, stem in zip(paths, stems, strict=True):
        base = path.stem if stems.count(stem) == 1 else f"{path.resolve().parent.name}-{path.stem}"
        numbered = chain([base], (f"{base}-{number}" for number in count(2)))
        name = next(name for name in numbered if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def refuse_to_overwrite(images: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse to write files in the place of the images that they are made from."""
    resolved = {path.resolve() for path in images}
    for file in files:
        if file.resolve() in resolved:
            raise AbnFastError(f"the pictures would overwrite the image {file}; choose another output folder")
