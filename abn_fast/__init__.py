"""Attention branch networks: image classifiers that show where they look, at full speed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abn_fast._errors import AbnFastError
from abn_fast._version import __version__

if TYPE_CHECKING:
    from abn_fast.checkpoints import from_published, load_checkpoint, save_checkpoint, to_published
    from abn_fast.export import InferenceSession, optimize_for_inference
    from abn_fast.models import create_model, from_backbone, list_models
    from abn_fast.modules import (
        ABNOutput,
        AttentionBranch,
        AttentionBranchNetwork,
        AttentionHead,
        Classifier,
        MultiTaskABN,
        abn_loss,
        multi_task_loss,
    )

_HOMES = {
    "abn_fast.checkpoints": ("from_published", "load_checkpoint", "save_checkpoint", "to_published"),
    "abn_fast.export": ("InferenceSession", "optimize_for_inference"),
    "abn_fast.models": ("create_model", "from_backbone", "list_models"),
    "abn_fast.modules": (
        "ABNOutput",
        "AttentionBranch",
        "AttentionBranchNetwork",
        "AttentionHead",
        "Classifier",
        "MultiTaskABN",
        "abn_loss",
        "multi_task_loss",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ABNOutput",
    "AbnFastError",
    "AttentionBranch",
    "AttentionBranchNetwork",
    "AttentionHead",
    "Classifier",
    "InferenceSession",
    "MultiTaskABN",
    "__version__",
    "abn_loss",
    "create_model",
    "from_backbone",
    "from_published",
    "list_models",
    "load_checkpoint",
    "multi_task_loss",
    "optimize_for_inference",
    "save_checkpoint",
    "to_published",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
