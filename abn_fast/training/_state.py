"""What a run needs beside the model to go on exactly: optimizer, random states, position and history."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import Checkpoint


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0
    images: int = 0
    """Images of this epoch that were trained on."""
    sums: list[float] | None = None
    """The tally of this epoch so far."""
    seconds: float = 0.0
    """Time spent on training before this session."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Metrics of the finished epochs."""


def training_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Tensors of the optimizer's state and of the random generators."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"random.cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    return tensors


def restore(checkpoint: Checkpoint, optimizer: Optimizer) -> Position:
    """Put optimizer and random generators where the checkpoint says; returns the run's position.

    Raises:
        AbnFastError: the checkpoint holds a model alone.
    """
    tensors = checkpoint.training_tensors
    if "random.cpu" not in tensors:
        raise AbnFastError("this checkpoint holds a model without the state of its training: start a new run from it")
    states: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available():
        saved = [value for name, value in tensors.items() if name.startswith("random.cuda")]
        torch.cuda.set_rng_state_all(saved[: torch.cuda.device_count()])
    return Position(**checkpoint.training)
