"""The paper's networks, each with its attention branch and as the plain baseline of the same backbone."""

from abn_fast.models import (  # noqa: F401  # each registers its family
    cifar_resnet,
    densenet,
    resnet,
    resnext,
    se_resnet,
    vgg,
    wide_resnet,
)
from abn_fast.models._factory import Network, create_model
from abn_fast.models._from_backbone import from_backbone
from abn_fast.models._pretrained import load_pretrained
from abn_fast.models._registry import list_models

__all__ = ["Network", "create_model", "from_backbone", "list_models", "load_pretrained"]
