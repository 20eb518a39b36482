from abn_fast.data._image_file import load_image
from abn_fast.data._registry import create_dataset, list_datasets
from abn_fast.data.dataset import ImageDataset, InMemoryImages
from abn_fast.data.digits_in_the_wild import DigitsInTheWild
from abn_fast.data.image_folder import ImageFolder
from abn_fast.data.preprocessing import CIFAR, IMAGENET, Preprocessing
from abn_fast.data.sampler import EpochSampler

__all__ = [
    "CIFAR",
    "IMAGENET",
    "DigitsInTheWild",
    "EpochSampler",
    "ImageDataset",
    "ImageFolder",
    "InMemoryImages",
    "Preprocessing",
    "create_dataset",
    "list_datasets",
    "load_image",
]
