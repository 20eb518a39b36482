import hashlib
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import InMemoryImages, Preprocessing, create_dataset, dataset_info, list_datasets

torchvision_datasets = pytest.importorskip("torchvision.datasets")

GENERATOR = np.random.default_rng(0)
STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Tiny files in CIFAR's format, and torchvision's table of sums changed to theirs."""
    reader = torchvision_datasets.CIFAR10 if name == "cifar10" else torchvision_datasets.CIFAR100
    folder = root / reader.base_folder
    folder.mkdir(parents=True)
    classes = 10 if name == "cifar10" else 100
    written = {}
    for split, table in (("train", "train_list"), ("test", "test_list")):
        pixels, labels, sums = [], [], []
        for file, _ in getattr(reader, table):
            rows = GENERATOR.integers(0, 256, (6, 3072), dtype=np.uint8)
            numbers = GENERATOR.integers(0, classes, 6).tolist()
            key = "labels" if name == "cifar10" else "fine_labels"
            (folder / file).write_bytes(pickle.dumps({"data": rows, key: numbers}))
            sums.append([file, md5(folder / file)])
            pixels.append(rows)
            labels += numbers
        monkeypatch.setattr(reader, table, sums)
        written[split] = np.concatenate(pixels).reshape(-1, 3, 32, 32), labels
    meta = folder / reader.meta["filename"]
    meta.write_bytes(pickle.dumps({reader.meta["key"]: [f"class {number}" for number in range(classes)]}))
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(meta)})
    return written


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[int]]]:
    io = pytest.importorskip("scipy.io")
    root.mkdir(parents=True, exist_ok=True)
    table, written = {}, {}
    for split in ("train", "test"):
        url, file, _ = torchvision_datasets.SVHN.split_list[split]
        pixels = GENERATOR.integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
        numbers = GENERATOR.integers(1, 11, (12, 1), dtype=np.uint8)  # SVHN writes 10 for the digit 0
        io.savemat(root / file, {"X": pixels, "y": numbers})
        table[split] = [url, file, md5(root / file)]
        written[split] = pixels.transpose(3, 2, 0, 1), (numbers[:, 0] % 10).tolist()
    monkeypatch.setattr(torchvision_datasets.SVHN, "split_list", table)
    return written


def write(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[int]]]:
    return write_svhn(root, monkeypatch) if name == "svhn" else write_cifar(root, name, monkeypatch)


every = pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])


@every
@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_the_published_files(name: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = write(tmp_path, name, monkeypatch)[split]
    dataset = create_dataset(name, split, root=tmp_path)
    assert len(dataset.classes) == dataset_info(name).num_classes == (100 if name == "cifar100" else 10)
    assert dataset.preprocessing == dataset_info(name).preprocessing == Preprocessing((32, 32), *STATISTICS)
    assert dataset.labels.tolist() == labels
    assert dataset.task == "single-label"
    assert dataset.boxes is None
    images, read_labels = next(iter(DataLoader(dataset, batch_size=len(labels))))
    assert read_labels.tolist() == labels
    mean, std = (np.reshape(values, (3, 1, 1)) for values in STATISTICS)
    np.testing.assert_allclose(images.numpy(), (pixels / 255 - mean) / std, atol=1e-5)


@every
def test_cifar_is_mirrored_and_svhn_is_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, name, monkeypatch)
    dataset = create_dataset(name, "train", tmp_path, augment=True, augmentation_seed=4)
    assert isinstance(dataset, InMemoryImages)
    assert dataset.flip is (name != "svhn")
    assert dataset.augmentation_seed == 4
    plain = create_dataset(name, "train", tmp_path)
    assert not torch.equal(dataset[0][0], plain[0][0])


@every
def test_a_validation_split_is_cut_out_of_the_training_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = write(tmp_path, name, monkeypatch)["train"]
    rows = {picture.transpose(1, 2, 0).tobytes(): number for number, picture in enumerate(pixels)}
    monkeypatch.setattr("abn_fast.data._registry.split_indices", lambda *_: (torch.arange(2, 6), torch.tensor([1, 0])))
    for split, expected in (("train", [2, 3, 4, 5]), ("validation", [1, 0])):
        part = create_dataset(name, split, tmp_path, validation=2)
        assert isinstance(part, InMemoryImages)
        assert [rows[picture.numpy().tobytes()] for picture in part.images] == expected
        assert part.labels.tolist() == [labels[number] for number in expected]
    with pytest.raises(AbnFastError, match=f"{name} has no official validation split"):
        create_dataset(name, "train", tmp_path, validation="official")


@pytest.mark.parametrize("labels", [[0, 3, 1], [0, -1, 1]])
def test_a_label_out_of_range_is_told(labels: list[int]) -> None:
    images = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    with pytest.raises(AbnFastError, match=f"label of sample 1 is {labels[1]}: expected 0 to 2"):
        InMemoryImages(images, torch.tensor(labels), ["a", "b", "c"], Preprocessing((32, 32), *STATISTICS))


def test_attributes_are_ones_and_zeros_of_every_class() -> None:
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    preprocessing = Preprocessing((32, 32), *STATISTICS)
    attributes = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    dataset = InMemoryImages(images, attributes, ["a", "b", "c"], preprocessing)
    assert dataset.task == "multi-label"
    assert torch.equal(next(iter(DataLoader(dataset, batch_size=2)))[1], attributes)
    with pytest.raises(AbnFastError, match="labels have 3 columns, but there are 2 attributes"):
        InMemoryImages(images, attributes, ["a", "b"], preprocessing)
    with pytest.raises(AbnFastError, match="ones and zeros"):
        InMemoryImages(images, attributes - 1, ["a", "b", "c"], preprocessing)


@every
def test_missing_files_are_told_with_the_fix(name: str, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match="download=True") as error:
        create_dataset(name, "train", tmp_path / "nowhere")
    assert f"{name} is not in '{tmp_path / 'nowhere'}'" in str(error.value)
    assert "\n" not in str(error.value)


@every
def test_corrupt_files_are_not_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, name, monkeypatch)
    largest = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.name)
    for path in tmp_path.rglob("*train*"):
        largest = path
    largest.write_bytes(largest.read_bytes()[:-100])
    with pytest.raises(AbnFastError, match="incomplete or corrupt") as error:
        create_dataset(name, "train", tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@every
def test_no_network_is_told_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(AbnFastError, match=r"could not be downloaded.*Name or service not known") as error:
        create_dataset(name, "train", tmp_path, download=True)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_names() -> None:
    assert list_datasets() == [
        "celeba",
        "cifar10",
        "cifar100",
        "compcars-makes",
        "compcars-models",
        "digits-in-the-wild",
        "image-folder",
        "imagenet",
        "svhn",
    ]
    assert [dataset_info(name).name for name in list_datasets()] == list_datasets()


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(AbnFastError, match=r"'mnist'.*cifar10.*svhn"):
        create_dataset("mnist", "train")
    with pytest.raises(AbnFastError, match=r"'mnist'.*cifar10.*svhn"):
        dataset_info("mnist")


@pytest.mark.parametrize("name", list_datasets())
def test_an_unknown_split_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"'dev'.*'train', 'validation' or 'test'"):
        create_dataset(name, "dev", tmp_path)
    with pytest.raises(AbnFastError, match=f"validation split of {name}.*validation=0.1"):
        create_dataset(name, "validation", tmp_path)


@pytest.mark.parametrize("name", list_datasets())
def test_an_unknown_argument_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=f"{name} has no argument colour"):
        create_dataset(name, "train", tmp_path, colour=1)
