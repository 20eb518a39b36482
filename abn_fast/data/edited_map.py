from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError, one_line
from abn_fast.data._image_file import UnreadableImageError, load_image

Box = tuple[float, float, float, float]

_MOST_PIXELS = 1 << 26
"""Of a picture: what a damaged header claims may fill the memory."""


class EditedMap(NamedTuple):
    """An attention map that a person has edited."""

    values: Tensor
    """float32 [H, W] in [0, 1]."""
    known: Tensor
    """float32 [H, W] in [0, 1]: how far a pixel says anything; 0 where the file is transparent."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.values.shape[0], self.values.shape[1]


def read_edited_map(path: str | Path) -> EditedMap:
    """A map from a grey picture of 8 or 16 bits, black 0 and white 1, or from a .npy file of floats [H, W] in [0, 1].

    Transparent pixels of a picture are unknown. A picture in colours is grey if its channels are equal.

    Raises:
        AbnFastError: no such file, no picture or array, coloured, or a value is outside [0, 1].
    """
    path = Path(path)
    if path.suffix == ".npy":
        values = _array(path)
        known = np.ones_like(values)
    else:
        values, known = _picture(path)
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        found = "NaN or infinite values" if values.size and not np.isfinite(values).all() else _range(values)
        raise AbnFastError(f"map '{path}' has {found}; expected numbers in [0, 1]")
    return EditedMap(torch.from_numpy(values), torch.from_numpy(known))


def on_picture(edited: EditedMap, size: tuple[int, int], map_size: tuple[int, int], box: Box, name: str) -> EditedMap:
    """A map over the whole of a picture, one value a pixel, unknown around the part that the network sees.

    Args:
        edited: of the picture's size, or of the network's map's.
        size: (height, width) of the picture.
        map_size: (height, width) of the network's map.
        box: (left, top, right, bottom) of what the network sees of the picture.
        name: of the map, for errors.

    Raises:
        AbnFastError: it has another size.
    """
    if edited.size == size:
        return edited
    check_size(edited, size, map_size, name)
    left, top, right, bottom = inside(box, size)
    rows = ((torch.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1]) * map_size[0]).long()
    columns = ((torch.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0]) * map_size[1]).long()
    whole = EditedMap(torch.zeros(size), torch.zeros(size))
    for part, cells in zip(whole, edited, strict=True):
        seen = cells[rows.clamp(0, map_size[0] - 1)][:, columns.clamp(0, map_size[1] - 1)]
        part[top:bottom, left:right] = seen
    return whole


def on_map(edited: EditedMap, size: tuple[int, int], map_size: tuple[int, int], box: Box, name: str) -> EditedMap:
    """A map at the resolution of the network's own: means over what each of its cells shows of the picture.

    Arguments and errors as of `on_picture`. Where a map has both sizes, it is the network's.
    """
    check_size(edited, size, map_size, name)
    if edited.size == map_size:
        return edited
    share = cut_out(edited.known, box, map_size)
    values = cut_out(edited.values * edited.known, box, map_size) / share.clamp_min(torch.finfo(torch.float32).tiny)
    return EditedMap(values.clamp(0, 1), share)


def check_size(edited: EditedMap, size: tuple[int, int], map_size: tuple[int, int], name: str) -> None:
    """Refuse a map that has neither the picture's size nor that of the network's map."""
    if edited.size not in (size, map_size):
        (height, width), (h, w) = size, map_size
        raise AbnFastError(
            f"map '{name}' has {edited.size[0]}x{edited.size[1]} pixels (height x width); expected {h}x{w}, the size "
            f"of the network's map, or {height}x{width}, the image's"
        )


def cut_out(values: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """A rectangle of [H, W] at another size, each pixel the mean of its area.

    Args:
        values: [H, W].
        box: (left, top, right, bottom), in pixels; what reaches over the edge is cut off.
        size: (height, width) of the result.
    """
    height, width = values.shape
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[2], float(width)), min(box[3], float(height))
    image = Image.fromarray(values.numpy())  # mode F
    resized = image.resize((size[1], size[0]), Image.Resampling.BOX, box=(left, top, right, bottom))
    return torch.from_numpy(np.array(resized))


def inside(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A rectangle (left, top, right, bottom) in whole pixels of a picture of size (height, width)."""
    left, top, right, bottom = (round(edge) for edge in box)
    return max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])


def _array(path: Path) -> npt.NDArray[np.float32]:
    if not path.is_file():
        raise AbnFastError(f"map '{path}' does not exist")
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header may raise anything
        raise AbnFastError(f"map '{path}' is no NumPy array: {one_line(error)}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise AbnFastError(f"map '{path}' is {found}; expected floating-point [H, W] in [0, 1]")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _picture(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    try:
        image = load_image(path)
    except UnreadableImageError as error:
        raise AbnFastError(f"map: {error}") from None
    if image.width * image.height > _MOST_PIXELS:
        raise AbnFastError(f"map '{path}' has {image.height}x{image.width} pixels; expected at most {_MOST_PIXELS:,}")
    if image.mode == "P" or image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    match image.mode:
        case "L" | "LA":
            levels = 255
        case "RGB" | "RGBA":
            levels = 255
            if (pixels[..., :3].max(-1) - pixels[..., :3].min(-1)).max() > 0:
                raise AbnFastError(
                    f"map '{path}' is coloured; expected grey, black for 0 and white for 1: abn-fast edit --save-map "
                    "writes the network's own map so"
                )
        case mode if mode.startswith("I"):
            levels = 65535
        case mode:
            raise AbnFastError(f"map '{path}' is a picture in mode {mode}; expected grey of 8 or 16 bits")
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    values = np.divide(grey, levels, dtype=np.float32)
    if image.mode not in ("LA", "RGBA"):
        return values, np.ones_like(values)
    return values, np.divide(pixels[..., -1], 255, dtype=np.float32)


def _range(values: npt.NDArray[np.float32]) -> str:
    return f"values in [{values.min():.4g}, {values.max():.4g}]" if values.size else "no values"
