from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._image_file import load_image
from abn_fast.data.celeba import CelebA
from abn_fast.data.dataset import ImageDataset, on_seen_image
from abn_fast.data.image_files import ImageFiles

_MOST_BYTES = 1_000_000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class AnnotatedObject(NamedTuple):
    """An object of a PASCAL VOC annotation."""

    name: str
    """Its class."""
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels of the picture, x1 and y1 excluded."""


def object_boxes(dataset: ImageDataset) -> Tensor | None:
    """The box of each image's object, float32 [N, 4] in pixels of the images as returned; NaN where unknown.

    None if no image has one. Those the data set knows itself (`dataset.boxes`) are taken first. CelebA's come from the
    official landmarks of the aligned pictures: the rectangle around eyes, nose and mouth, wider by half of its width
    to the left and right and taller by half of its height up and down, which is the face from brow to chin; the
    official face boxes belong to the pictures before their alignment. Other image files may have a PASCAL VOC
    annotation beside them, NAME.xml beside NAME.jpg; of several objects the largest one counts whose name is the
    image's class, or, if none has it, the largest. What the network's crop leaves nothing of is unknown.

    Raises:
        AbnFastError: an annotation is damaged, too large, or declares a document type.
        UnreadableImageError: an annotated picture cannot be read.
    """
    if dataset.boxes is not None or not isinstance(dataset, ImageFiles):
        return dataset.boxes
    if isinstance(dataset, CelebA):
        return None if dataset.landmarks is None else _known(torch.stack(_faces(dataset)))
    boxes = torch.stack([_annotated_box(dataset, index) for index in range(len(dataset))]) if len(dataset) else None
    return _known(boxes)


def read_annotation(path: Path) -> list[AnnotatedObject]:
    """The objects of a PASCAL VOC annotation.

    Pixels are counted from 1 there and the last one belongs to the box: x0 = xmin - 1, x1 = xmax. Parts of an object
    are left out. The file may be no larger than a megabyte; a document type, which could declare entities, is refused.

    Raises:
        AbnFastError: the file is damaged, too large, or declares a document type.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise AbnFastError(f"annotation '{path}' is larger than {_MOST_BYTES:,} bytes")
    reader = _Reader(path)
    try:
        reader.parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise AbnFastError(f"annotation '{path}' is no well-formed XML: {error}") from None
    return reader.objects


class _Reader:
    """Collects name and corners of each `object` that stands in the root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects: list[AnnotatedObject] = []
        self._open: list[str] = []
        self._values: dict[str, str] = {}
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse(self, *declaration: object) -> None:
        raise AbnFastError(f"annotation '{self.path}' declares a document type, which annotations do not need")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        if self._open[1:] == ["object"]:
            self._values = {}

    def _text(self, text: str) -> None:
        place = self._open[1:]
        if place == ["object", "name"] or (len(place) == 3 and place[:2] == ["object", "bndbox"]):
            self._values[place[-1]] = self._values.get(place[-1], "") + text

    def _end(self, name: str) -> None:
        if self._open[1:] == ["object"]:
            self.objects.append(AnnotatedObject(self._values.get("name", "").strip(), self._corners()))
        self._open.pop()

    def _corners(self) -> tuple[float, float, float, float]:
        try:
            x0, y0, x1, y1 = (float(self._values[corner]) for corner in _CORNERS)
        except (KeyError, ValueError):
            raise AbnFastError(f"annotation '{self.path}': an object lacks a number {', '.join(_CORNERS)}") from None
        if not (x0 <= x1 and y0 <= y1 and x1 - x0 + y1 - y0 < float("inf")):
            raise AbnFastError(f"annotation '{self.path}': box {x0:g}, {y0:g}, {x1:g}, {y1:g} has no pixel")
        return (x0 - 1, y0 - 1, x1, y1)


def _annotated_box(dataset: ImageFiles, index: int) -> Tensor:
    path = dataset.paths[index]
    annotation = path.with_suffix(".xml")
    objects = read_annotation(annotation) if annotation.is_file() else []
    if not objects:
        return torch.full((4,), torch.nan)
    label = dataset.labels[index]
    own = {dataset.classes[int(label)]} if label.ndim == 0 else set()
    box = max([each.box for each in objects if each.name in own] or [each.box for each in objects], key=_area)
    return on_seen_image(torch.tensor([box]), dataset.preprocessing, *load_image(path).size)[0]


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _faces(dataset: CelebA) -> list[Tensor]:
    assert dataset.landmarks is not None
    points = dataset.landmarks.float()
    low, high = points.amin(1), points.amax(1) + 1
    grown = torch.cat([low - (high - low) / 2, high + (high - low) / 2], 1)
    return [
        on_seen_image(box[None], dataset.preprocessing, *_size(path))[0]
        for box, path in zip(grown, dataset.paths, strict=True)
    ]


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return load_image(path).size  # says what is wrong with it


def _known(boxes: Tensor | None) -> Tensor | None:
    """The boxes, NaN where less than a pixel is left; None if that is all."""
    if boxes is None:
        return None
    x0, y0, x1, y1 = boxes.unbind(1)
    left = (x1.round() - x0.round() >= 1) & (y1.round() - y0.round() >= 1)
    boxes = boxes.where(left[:, None], torch.nan)
    return boxes if left.any() else None
