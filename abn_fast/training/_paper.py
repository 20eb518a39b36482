from abn_fast.training.config import TrainingConfig
from abn_fast.training.run import flat_settings

_PAPER = {
    "optimizer.name": "sgd",
    "optimizer.nesterov": False,
    "schedule.name": "step",
    "schedule.warmup_epochs": 0,
    "loss.label_smoothing": 0,
    "loss.map_area_weight": 0,
    "mix.mixup": 0,
    "mix.cutmix": 0,
    "rand_augment.operations": 0,
    "clip_norm": None,
    "ema_decay": None,
}


def beyond_the_paper(config: TrainingConfig) -> list[str]:
    """The settings that no recipe of the paper has, as "schedule.name=cosine"."""
    settings = flat_settings(config.to_dict())
    return [f"{name}={settings[name]}" for name, value in _PAPER.items() if settings[name] != value]
