"""Checkpoints: this library's own, and those of the published code both ways."""

from abn_fast.checkpoints.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from abn_fast.checkpoints.published import from_published, to_published

__all__ = [
    "Checkpoint",
    "from_published",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "to_published",
]
