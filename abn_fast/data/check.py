from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.data._image_file import load_image
from abn_fast.data._problems import few
from abn_fast.data._registry import create_dataset, dataset_info
from abn_fast.data.dataset import ImageDataset, InMemoryImages
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.image_folder import validation_folder
from abn_fast.data.preprocessing import IMAGENET

TINY_CLASS = 10
"""Training images below which a class is told as tiny."""
_CHUNK = 512


@dataclass(frozen=True)
class Problem:
    """One line about the files of a data set.

    Attributes:
        kind: layout (what the files should be), unreadable, leak (one picture in two splits), conflict (one
            picture in two classes), or among the notes tiny, absent, mode, repeated.
        message: what and where.
    """

    kind: str
    message: str


@dataclass
class DataReport:
    """What `check_data` found.

    Attributes:
        name: of the data set.
        root: its folder.
        counts: images of every class (or with every attribute), for every split.
        images: readable ones of every split.
        problems: what is wrong.
        notes: what is worth knowing.
    """

    name: str
    root: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check_data(
    name: str, root: str | Path, *, tiny: int = TINY_CLASS, workers: int = 1, progress: bool = False
) -> DataReport:
    """Read all of a data set and say what is wrong with it; no image is given to a network.

    Every image is decoded. Two images are the same if their pixels are, whatever their files.

    Args:
        name: one of `list_datasets()`.
        root: where the files are.
        tiny: a class of fewer training images is noted.
        workers: threads that decode.
        progress: show a bar on a terminal.

    Raises:
        AbnFastError: the name is unknown, or the data set is made without files.
    """
    dataset_info(name)
    if name == "digits-in-the-wild":
        raise AbnFastError(f"{name} has no files to check")
    report = DataReport(name, str(root))
    datasets = _open(report, Path(root))
    _check_classes(report, datasets, tiny)
    seen = _Seen(report, datasets)
    total = sum(len(dataset) for dataset in datasets.values())
    with tqdm(total=total, unit="img", disable=None if progress else True) as bar:
        for split, dataset in datasets.items():
            for index, picture in enumerate(_pictures(dataset, split, workers)):
                seen.add(split, index, picture)
                bar.update()
    seen.finish()
    return report


def _open(report: DataReport, root: Path) -> dict[str, ImageDataset]:
    """The splits that can be opened; whatever is wrong is reported, once."""
    lines: dict[str, None] = {}
    arguments: dict[str, Any] = {}
    if "report" in dataset_info(report.name).arguments:
        arguments["report"] = lines.setdefault
    single = report.name == "image-folder" and root.is_dir() and not (root / "train").is_dir()
    datasets = {}
    splits = ["train"] if single else ["train", "test"]
    if report.name == "image-folder" and validation_folder(root) is not None:
        splits.insert(1, "validation")
        arguments["validation"] = "official"
    for split in splits:
        try:
            datasets[split] = create_dataset(report.name, split, root, **arguments)
        except AbnFastError as error:
            lines.setdefault(str(error))
    report.problems += [Problem("layout", line) for line in lines]
    report.problems += [
        Problem("layout", f"'{path}' lies outside of the class folders and is left out")
        for path in _strays(report.name, root)
    ]
    if single:
        report.notes.append(Problem("absent", f"'{root}' has no train/ and val/: the same images serve both splits"))
    return datasets


def _strays(name: str, root: Path) -> list[Path]:
    """Images beside the class folders."""
    if name not in ("image-folder", "imagenet") or not root.is_dir():
        return []
    from torchvision.datasets.folder import IMG_EXTENSIONS

    folders = [root, *(root / split for split in ("train", "val", "test", "valid"))]
    files = (entry for folder in folders if folder.is_dir() for entry in sorted(folder.iterdir()))
    return [file for file in files if file.suffix.lower() in IMG_EXTENSIONS and file.is_file()]


def _check_classes(report: DataReport, datasets: dict[str, ImageDataset], tiny: int) -> None:
    for split, dataset in datasets.items():
        labels = dataset.labels
        numbers = labels.bincount(minlength=dataset.num_classes) if labels.ndim == 1 else labels.sum(0).long()
        counts = dict(zip(dataset.classes, numbers.tolist(), strict=True))
        report.counts[split] = counts
        if split == "train":
            few_images = [f"{name} ({count})" for name, count in counts.items() if 0 < count < tiny]
            if few_images:
                report.notes.append(Problem("tiny", f"fewer than {tiny} training images: {few(few_images)}"))
        if empty := [name for name, count in counts.items() if not count]:
            report.notes.append(Problem("absent", f"no {split} image: {few(empty)}"))


class _Picture(NamedTuple):
    name: str
    mode: str = ""
    digest: bytes = b""
    error: str = ""


def _pictures(dataset: ImageDataset, split: str, workers: int) -> Iterator[_Picture]:
    if isinstance(dataset, InMemoryImages):
        for index, image in enumerate(dataset.images):
            yield _Picture(f"image {index} of {split}", "RGB", _digest(image.numpy().tobytes(), tuple(image.shape)))
        return
    assert isinstance(dataset, ImageFiles)
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(dataset), _CHUNK):
            yield from pool.map(_decode, dataset.paths[start : start + _CHUNK])


def _decode(path: Path) -> _Picture:
    try:
        image = load_image(path)
        pixels = IMAGENET.convert(image)
    except AbnFastError as error:
        message = str(error)
        return _Picture(str(path), error=message if str(path) in message else f"image '{path}': {message}")
    return _Picture(f"'{path}'", image.mode, _digest(pixels.tobytes(), pixels.size))


def _digest(pixels: bytes, shape: tuple[int, ...]) -> bytes:
    return blake2b(repr(shape).encode() + pixels, digest_size=16).digest()


class _Seen:
    """All pictures so far, by their pixels."""

    def __init__(self, report: DataReport, datasets: dict[str, ImageDataset]) -> None:
        self.report, self.datasets = report, datasets
        self.first: dict[bytes, tuple[str, int, str]] = {}
        self.modes: dict[str, list[str]] = defaultdict(list)
        self.repeated: list[str] = []

    def add(self, split: str, index: int, picture: _Picture) -> None:
        if picture.error:
            self.report.problems.append(Problem("unreadable", picture.error))
            return
        self.report.images[split] = self.report.images.get(split, 0) + 1
        if picture.mode != "RGB":
            self.modes[picture.mode].append(picture.name)
        other_split, other_index, other_name = self.first.setdefault(picture.digest, (split, index, picture.name))
        if (other_split, other_index) == (split, index):
            return
        same = f"{picture.name} is the same picture as {other_name}"
        if other_split != split:
            self.report.problems.append(Problem("leak", f"{same}: one is in {other_split}, the other in {split}"))
            return
        labels = self.datasets[split].labels
        if labels.ndim == 1 and labels[index] != labels[other_index]:
            classes = [self.datasets[split].classes[int(labels[place])] for place in (other_index, index)]
            self.report.problems.append(Problem("conflict", f"{same}: one is {classes[0]}, the other {classes[1]}"))
        else:
            self.repeated.append(same)

    def finish(self) -> None:
        notes = self.report.notes
        for mode, names in sorted(self.modes.items()):
            notes.append(Problem("mode", f"{len(names)} images in mode {mode}, read as RGB: {few(names, 3)}"))
        notes += [Problem("repeated", line) for line in self.repeated]
