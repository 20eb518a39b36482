import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from torch import Tensor

from abn_fast._checks import is_texts
from abn_fast._errors import AbnFastError, one_line
from abn_fast._files import write_atomically
from abn_fast._version import __version__
from abn_fast.checkpoints._pickle import read_pickle
from abn_fast.checkpoints._safetensors import is_safetensors, read_safetensors, write_safetensors
from abn_fast.checkpoints._state import build_from_state
from abn_fast.checkpoints.published import from_published
from abn_fast.data import CIFAR, IMAGENET, Preprocessing
from abn_fast.models import Network
from abn_fast.models._registry import ABN_PREFIX, find_family
from abn_fast.modules import ImageNetwork, ModelConfig

FORMAT = 1
TRAINING = "training."
"""Prefix of tensors that are not the model's; no state dict has it, a module's `training` being a bool."""


@dataclass
class Checkpoint:
    """A model and what is known about it."""

    model: Network
    preprocessing: Preprocessing | None = None
    classes: list[str] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """What a training run needs to go on, as JSON values; empty for a model alone."""
    training_tensors: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(
    model: ImageNetwork,
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    training_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model as safetensors whose JSON header rebuilds it; the file appears whole or not at all.

    Args:
        model: made by `create_model` or any function that sets its `config`.
        path: of the file; by custom it ends in .safetensors.
        preprocessing: from a picture to what the network sees.
        classes: their names, as many as the model has.
        metrics: of this model, for example {"top1": 92.0}; JSON values.
        training: what a training run needs to go on, JSON values.
        training_tensors: likewise, tensors.

    Raises:
        AbnFastError: nothing could rebuild this model, or the file cannot be written.
    """
    if model.config is None:
        raise AbnFastError(
            f"this {type(model).__name__} was made from a module, so that no name rebuilds it: make it with "
            'create_model("abn_timm:NAME") or create_model("abn_torchvision:NAME")'
        )
    if classes is not None and len(classes) != model.num_classes:
        raise AbnFastError(f"{len(classes)} class names for a model of {model.num_classes} classes")
    header = {
        "format": FORMAT,
        "model": {"name": model.config.name, "arguments": model.config.arguments},
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
        "classes": None if classes is None else list(classes),
        "metrics": dict(metrics or {}),
        "training": dict(training or {}),
        "abn_fast": __version__,
    }
    tensors = model.state_dict() | {TRAINING + key: value for key, value in (training_tensors or {}).items()}
    path = Path(path)
    try:
        write_atomically(path, lambda temporary: write_safetensors(temporary, tensors, json.dumps(header)))
    except OSError as error:
        raise AbnFastError(f"{path} cannot be written: {error.strerror or error}; what was there is kept") from error


def load_checkpoint(path: str | Path, device: str = "cpu") -> Network:
    """The model in a checkpoint of this library or of the published code, in evaluation mode.

    Raises:
        AbnFastError: no such file, truncated, of no known format, or a pickle that would run code.
    """
    return read_checkpoint(path).model.to(device)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint with all that it says about its model; see `load_checkpoint`."""
    path = Path(path)
    if not path.is_file():
        raise AbnFastError(f"{path}: no such file")
    try:
        return _read_native(path) if is_safetensors(path) else _read_published(path)
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {one_line(error)}") from None


def _read_native(path: Path) -> Checkpoint:
    tensors, text = read_safetensors(path)
    header = _header(text)
    state = {key: value for key, value in tensors.items() if not key.startswith(TRAINING)}
    config = ModelConfig(header["model"]["name"], header["model"]["arguments"])
    preprocessing = header.get("preprocessing")
    model = build_from_state(config, state).eval()
    return Checkpoint(
        model,
        None if preprocessing is None else Preprocessing.from_dict(preprocessing),
        _checked_classes(header.get("classes"), model.num_classes),
        _checked_table("metrics", header.get("metrics", {})),
        _checked_table("training", header.get("training", {})),
        {key.removeprefix(TRAINING): value for key, value in tensors.items() if key.startswith(TRAINING)},
    )


def _header(text: str | None) -> dict[str, Any]:
    if text is None:
        raise AbnFastError("a safetensors file without abn_fast's header: load its tensors into a model yourself")
    try:
        header = json.loads(text)
        version, name, arguments = header["format"], header["model"]["name"], header["model"]["arguments"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # the first and the last are JSON's
        raise AbnFastError(f"its header is damaged: {error!r}") from None
    if version != FORMAT:
        raise AbnFastError(f"format {version!r} is not {FORMAT}: it was written by another version of abn_fast")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise AbnFastError("its header names no model")
    return dict(header)


def _checked_classes(classes: Any, count: int) -> list[str] | None:
    if classes is None:
        return None
    if not is_texts(classes) or len(classes) != count:
        raise AbnFastError(f"its header is damaged: classes={classes!r}; expected {count} names")
    return list(classes)


def _checked_table(name: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise AbnFastError(f"its header is damaged: {name}={values!r}; expected a table")
    return values


def _read_published(path: Path) -> Checkpoint:
    content = read_pickle(path)
    metrics: dict[str, Any] = {}
    for key in ("epoch", "acc", "best_acc"):
        if isinstance(content.get(key), Real | Tensor):
            metrics[key] = float(content[key])
    model = from_published(content).eval()
    assert model.config is not None
    family, _ = find_family(model.config.name.removeprefix(ABN_PREFIX))
    preprocessing = CIFAR if family.image_size == CIFAR.image_size[0] else IMAGENET  # the published code's own
    return Checkpoint(model, preprocessing, metrics=metrics)
