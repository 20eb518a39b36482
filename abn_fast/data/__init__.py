from abn_fast.data._image_file import UnreadableImageError, load_image
from abn_fast.data._registry import DatasetInfo, create_dataset, dataset_info, list_datasets
from abn_fast.data.celeba import CelebA
from abn_fast.data.check import DataReport, Problem, check_data
from abn_fast.data.compcars import CompCars
from abn_fast.data.dataset import ImageDataset, InMemoryImages
from abn_fast.data.digits_in_the_wild import DigitsInTheWild
from abn_fast.data.edited_map import EditedMap, read_edited_map
from abn_fast.data.edited_maps import EditedMaps
from abn_fast.data.image_files import ImageFiles
from abn_fast.data.image_folder import ImageFolder
from abn_fast.data.imagenet import ImageNet
from abn_fast.data.preprocessing import CIFAR, IMAGENET, Preprocessing
from abn_fast.data.rand_augment import RandAugment
from abn_fast.data.sampler import EpochSampler
from abn_fast.data.skip_unreadable import SkipUnreadable
from abn_fast.data.split import split_indices
from abn_fast.data.torch_dataset import as_image_dataset

__all__ = [
    "CIFAR",
    "IMAGENET",
    "CelebA",
    "CompCars",
    "DataReport",
    "DatasetInfo",
    "DigitsInTheWild",
    "EditedMap",
    "EditedMaps",
    "EpochSampler",
    "ImageDataset",
    "ImageFiles",
    "ImageFolder",
    "ImageNet",
    "InMemoryImages",
    "Preprocessing",
    "Problem",
    "RandAugment",
    "SkipUnreadable",
    "UnreadableImageError",
    "as_image_dataset",
    "check_data",
    "create_dataset",
    "dataset_info",
    "list_datasets",
    "load_image",
    "read_edited_map",
    "split_indices",
]
