"""What a run needs beside the model to go on exactly: optimizer, averaged weights, position and history."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from abn_fast._checks import check_kinds
from abn_fast._errors import AbnFastError, one_line
from abn_fast.checkpoints import Checkpoint


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0
    images: int = 0
    """Images of this epoch that were trained on."""
    sums: list[list[float]] = field(default_factory=list)
    """The tally of this epoch so far, in each process."""
    seconds: float = 0.0
    """Time spent on training before this session."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Metrics of the finished epochs."""
    best: dict[str, float] | None = None
    """The row of the epoch that is best on the validation set."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the float16 loss scaling."""


_KINDS: dict[str, Any] = {
    "epoch": int,
    "images": int,
    "sums": list,
    "seconds": int | float,
    "history": list,
    "best": dict | None,
    "scaler": dict,
}
"""What JSON makes of a position's values."""


def training_tensors(optimizer: Optimizer, average: nn.Module | None) -> dict[str, Tensor]:
    """Tensors of the optimizer's state and of the averaged model."""
    tensors = {
        f"optimizer.{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    return tensors


def restore(checkpoint: Checkpoint, optimizer: Optimizer, average: nn.Module | None) -> Position:
    """Put optimizer and averaged model where the checkpoint says; returns the run's position.

    Raises:
        AbnFastError: the checkpoint holds a model alone, or a damaged state.
    """
    if not checkpoint.training:
        raise AbnFastError("this checkpoint holds a model without the state of its training: start a new run from it")
    try:
        return _restore(checkpoint, optimizer, average)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise AbnFastError(f"the state of its training is damaged: {one_line(repr(error))}") from None


def _restore(checkpoint: Checkpoint, optimizer: Optimizer, average: nn.Module | None) -> Position:
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    averaged: dict[str, Tensor] = {}
    for name, value in checkpoint.training_tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            states.setdefault(int(index), {})[key] = _in_layout_of(parameters[int(index)], value)
        elif kind == "average":
            averaged[rest] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        average.load_state_dict(averaged)
    check_kinds(checkpoint.training, _KINDS)
    return Position(**checkpoint.training)


def _in_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """The value with the strides of its parameter: fused optimizers go through both as they lie in memory."""
    if value.shape == ():  # a count of steps
        return value
    if value.shape != parameter.shape:
        raise ValueError(f"{list(value.shape)} beside a parameter {list(parameter.shape)}")
    return torch.empty_like(parameter).copy_(value)
