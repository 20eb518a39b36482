from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._augmentation import PICTURE_DRAWS, seen_box
from abn_fast.data._image_file import load_image
from abn_fast.data._problems import few
from abn_fast.data.dataset import ImageDataset, Task
from abn_fast.data.edited_map import check_size, cut_out, on_picture, read_edited_map
from abn_fast.data.image_files import ImageFiles

SUFFIXES = (".png", ".npy")


class EditedMaps(ImageDataset):
    """Image files, some of which have an attention map that a person has edited.

    A sample's image has two channels more than the network takes: the edited map's values times known, and known
    (see `EditedMap`); zeros for an image without one. Augmentation cuts and mirrors them as it does the picture.

    Args:
        dataset: the images; of its augmentation, `rand_augment` is not for edited maps.
        folder: of the maps: that of root/cat/7.jpg is cat/7.png or cat/7.npy (see `read_edited_map`).
        root: the folder to which the images' names are relative.
        map_size: (height, width) of the network's map; an edited map has this size or its picture's.

    Attributes:
        edited: how many of the images have an edited map.
        unused: names of maps that belong to none of the images.

    Raises:
        AbnFastError: the images are not in files; the folder has no map of any of them, or two of one; a map cannot
            be read, is out of range or of the wrong size.
    """

    has_edited_maps = True

    def __init__(self, dataset: ImageDataset, folder: str | Path, root: str | Path, map_size: tuple[int, int]) -> None:
        if not isinstance(dataset, ImageFiles):
            raise AbnFastError("edited maps are found by the names of image files: expected a folder of images")
        super().__init__(dataset.labels, dataset.classes, dataset.preprocessing, augment=dataset.augment)
        self.augmentation_seed = dataset.augmentation_seed
        self.dataset, self.map_size = dataset, map_size
        self.maps, self.unused = _find(Path(folder), dataset.paths, Path(root))
        for image, path in self.maps.items():
            picture = load_image(image)
            check_size(read_edited_map(path), (picture.height, picture.width), map_size, str(path))

    @property
    def edited(self) -> int:
        """How many of the images have an edited map."""
        return sum(path in self.maps for path in self.dataset.paths)

    @property
    def task(self) -> Task:
        """That of the data set."""
        return self.dataset.task

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.dataset[index]
        path = self.maps.get(self.dataset.paths[index])
        if path is None:
            return torch.cat([image, image.new_zeros(2, *image.shape[1:])]), label
        return torch.cat([image, self._seen(index % len(self), path)]), label

    def _seen(self, index: int, path: Path) -> Tensor:
        """What the network sees of an edited map: values times known, and known."""
        dataset, seen = self.dataset, self.preprocessing
        picture = load_image(dataset.paths[index])
        size = (picture.height, picture.width)
        edited = on_picture(read_edited_map(path), size, self.map_size, seen.crop_box(*picture.size), str(path))
        box, mirrored = seen.crop_box(*picture.size), False
        if dataset.augment:
            draws = dataset._draws([index], PICTURE_DRAWS)[0]
            box, mirrored = seen_box(picture.size, seen, draws, dataset.crop)
        channels = torch.stack(
            [cut_out(each, box, seen.image_size) for each in (edited.values * edited.known, edited.known)]
        )
        return channels.flip(-1) if mirrored else channels

    def _keep(self, chosen: Tensor) -> None:
        self.dataset = self.dataset.select(chosen)


def _find(folder: Path, images: list[Path], root: Path) -> tuple[dict[Path, Path], list[str]]:
    """The maps in a folder by their image, and the names of those without."""
    if not folder.is_dir():
        raise AbnFastError(f"edited maps '{folder}': no such folder")
    names: dict[Path, list[Path]] = {}
    for image in images:
        names.setdefault(image.relative_to(root).with_suffix(""), []).append(image)
    maps: dict[Path, Path] = {}
    unused = []
    for path in sorted(each for each in folder.rglob("*") if each.suffix in SUFFIXES):
        relative = path.relative_to(folder)
        owners = names.get(relative.with_suffix(""), [])
        if len(owners) > 1 or (owners and owners[0] in maps):
            both = [str(each) for each in (owners if len(owners) > 1 else (maps[owners[0]], path))]
            raise AbnFastError(
                f"edited maps '{folder}': {relative} is not the only one of its name: {' and '.join(both)}"
            )
        if owners:
            maps[owners[0]] = path
        else:
            unused.append(str(relative))
    if not maps:
        found = f"{few(unused, 3)} belong to none of the {len(images)} training images" if unused else "no .png or .npy"
        example = images[0].relative_to(root).with_suffix(".png")
        raise AbnFastError(f"edited maps '{folder}': {found}; expected names such as {example}")
    return maps, unused
