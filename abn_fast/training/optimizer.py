from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from abn_fast.training.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The fused optimizer of every parameter that is trained."""
    settings = config.optimizer
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.name == "adamw":
        return AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    return SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )
