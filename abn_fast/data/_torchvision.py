"""CIFAR-10, CIFAR-100 and SVHN, read by torchvision, which checks the files' sums before it opens them."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.data.dataset import InMemoryImages, check_split
from abn_fast.data.preprocessing import CIFAR, Preprocessing


def cifar(
    name: str,
    split: str,
    root: str | Path,
    *,
    preprocessing: Preprocessing | None,
    augment: bool,
    augmentation_seed: int,
    download: bool,
) -> InMemoryImages:
    """CIFAR-10 or CIFAR-100 (Krizhevsky, 2009): 50,000 and 10,000 images of 32x32."""
    check_split(split)
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if name == "cifar10" else CIFAR100
    files = Path(root) / reader.base_folder
    source = _read(name, reader, files, root, download, train=split == "train")
    return InMemoryImages(
        torch.from_numpy(np.ascontiguousarray(source.data)),
        torch.tensor(source.targets),
        source.classes,
        preprocessing or CIFAR,
        augment=augment,
        flip=True,
        augmentation_seed=augmentation_seed,
    )


def svhn(
    split: str,
    root: str | Path,
    *,
    preprocessing: Preprocessing | None,
    augment: bool,
    augmentation_seed: int,
    download: bool,
) -> InMemoryImages:
    """SVHN (Netzer et al., 2011), cropped digits: 73,257 and 26,032 images of 32x32; never mirrored."""
    check_split(split)
    require("scipy.io", extra="data", purpose="svhn")
    from torchvision.datasets import SVHN

    files = Path(root) / SVHN.split_list[split][1]
    source = _read("svhn", SVHN, files, root, download, split=split)
    return InMemoryImages(
        torch.from_numpy(source.data).permute(0, 2, 3, 1).contiguous(),
        torch.from_numpy(source.labels),
        [str(digit) for digit in range(10)],
        preprocessing or CIFAR,
        augment=augment,
        augmentation_seed=augmentation_seed,
    )


def _read(name: str, reader: Any, files: Path, root: str | Path, download: bool, **which: Any) -> Any:
    try:
        return reader(root, download=download, **which)
    except (URLError, OSError, RuntimeError) as error:
        if download:
            reason = " ".join(str(error).split())
            raise AbnFastError(
                f"{name} could not be downloaded to '{root}' ({reason}): check the network, or copy the files to "
                f"'{files}' yourself"
            ) from None
        if files.exists():
            raise AbnFastError(
                f"{name} in '{files}' is incomplete or corrupt (its checksums differ): delete it and download it "
                "again with download=True"
            ) from None
        raise AbnFastError(
            f"{name} is not in '{root}' (no '{files}'): point root at it, or download it with download=True"
        ) from None
