from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from abn_fast.data import ImageDataset

Command = TypeVar("Command", bound=Callable[..., Any])


def data_options(command: Command) -> Command:
    """The options that choose a data set."""
    command = click.option(
        "--image-size", type=int, help="Side of the images that the network sees, pixels; by default the data set's."
    )(command)
    command = click.option("--download", is_flag=True, help="Download CIFAR or SVHN to --root.")(command)
    command = click.option(
        "--root", default="data", show_default=True, help="Folder of the files of a named data set."
    )(command)
    return click.option(
        "--data",
        default="digits-in-the-wild",
        show_default=True,
        help="digits-in-the-wild, cifar10, cifar100, svhn, imagenet, compcars-models, compcars-makes, celeba, "
        "or a folder with train/CLASS/ and test/CLASS/ images.",
    )(command)


def validation_option(command: Command) -> Command:
    """The option that holds a part of the training set out; `open_data` takes its value as `validation`."""
    return click.option(
        "--validation",
        callback=_validation,
        help="Part of the training set that is the validation split: 0.1, 5000 images, or official (CelebA).",
    )(command)


def _validation(context: click.Context, parameter: click.Parameter, text: str | None) -> "float | int | str | None":
    if text is None or text == "official":
        return text
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected a share such as 0.1, a number of images, or official") from None


def open_data(
    data: str,
    root: str = "data",
    download: bool = False,
    image_size: int | None = None,
    *,
    split: str,
    classes: list[str] | None = None,
    **arguments: Any,
) -> "ImageDataset":
    """The data set that the options name; anything but a known name is a folder, whose labels follow `classes`."""
    from abn_fast._checks import checked_whole
    from abn_fast._errors import AbnFastError
    from abn_fast.data import create_dataset, dataset_info, list_datasets

    if data == "image-folder":
        arguments["classes"] = classes
    elif data not in list_datasets():
        if not Path(data).exists():
            raise AbnFastError(
                f"data {data!r} is no folder here and no data set: expected {', '.join(list_datasets())}"
            )
        data, root = "image-folder", data
        arguments["classes"] = classes
    if image_size is not None:
        side = checked_whole("image_size", image_size)
        seen = arguments.get("preprocessing")
        if data == "digits-in-the-wild":
            arguments["image_size"] = side  # of the scenes themselves, in which digits keep their size
        elif seen is None:
            seen = dataset_info(data).preprocessing
        arguments["preprocessing"] = None if seen is None else replace(seen, image_size=(side, side))
    return create_dataset(data, split, root, download=download, **arguments)


def line_of(metrics: dict[str, float]) -> str:
    """Metrics as a line; all but the loss are percentages."""
    parts = [f"loss {metrics['loss']:.3f}"] if "loss" in metrics else []
    parts += [f"{name.replace('_', ' ')} {value:.1f} %" for name, value in metrics.items() if name != "loss"]
    return ", ".join(parts)
