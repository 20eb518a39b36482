from math import cos, pi

from abn_fast.training.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over the whole training: a function of its arguments alone.

    warm-up   rate * (step + 1) / warm-up steps
    cosine    rate * (1 + cos(pi * progress)) / 2, progress from 0 to 1 after the warm-up
    step      rate * gamma ^ (milestones passed)
    """
    rate, schedule, epoch = config.optimizer.lr, config.schedule, step / steps_per_epoch
    warmup = schedule.warmup_epochs
    if epoch < warmup:
        return rate * min(1.0, (step + 1) / (warmup * steps_per_epoch))
    if schedule.name == "cosine":
        return rate * (1 + cos(pi * (epoch - warmup) / max(config.epochs - warmup, 1e-9))) / 2
    if schedule.name == "step":
        return rate * schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
    return rate
