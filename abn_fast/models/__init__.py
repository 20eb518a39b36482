"""The paper's networks, each with its attention branch and as the plain baseline of the same backbone."""

from abn_fast.models import cifar_resnet, densenet, resnet, resnext, se_resnet, vgg, wide_resnet
from abn_fast.models._factory import create_model
from abn_fast.models._registry import list_models

__all__ = [
    "cifar_resnet",
    "create_model",
    "densenet",
    "list_models",
    "resnet",
    "resnext",
    "se_resnet",
    "vgg",
    "wide_resnet",
]
