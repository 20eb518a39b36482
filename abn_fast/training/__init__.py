"""Training and evaluation."""

from abn_fast.training.config import (
    LossConfig,
    MixConfig,
    OptimizerConfig,
    RandAugmentConfig,
    ScheduleConfig,
    TrainingConfig,
)
from abn_fast.training.device import autocast, choose_device
from abn_fast.training.evaluation import evaluate
from abn_fast.training.run import RunFolder
from abn_fast.training.trainer import TrainingInterruptedError, train

__all__ = [
    "LossConfig",
    "MixConfig",
    "OptimizerConfig",
    "RandAugmentConfig",
    "RunFolder",
    "ScheduleConfig",
    "TrainingConfig",
    "TrainingInterruptedError",
    "autocast",
    "choose_device",
    "evaluate",
    "train",
]
