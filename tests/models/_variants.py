"""A small member of each family."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from abn_fast import AttentionBranchNetwork, Classifier, create_model

NUM_CLASSES = 5
SMALL = ((33, 47), (37, 61))
LARGE = ((97, 131), (101, 70))


@dataclass(frozen=True)
class Variant:
    """A network small enough to compute with."""

    name: str
    reduction: int
    """Of the attention map, against the image."""
    sizes: tuple[tuple[int, int], tuple[int, int]]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *(str(value) for value in self.arguments.values() if isinstance(value, str))])

    def abn(self, **arguments: Any) -> AttentionBranchNetwork:
        model = self._create("abn_", **arguments)
        assert isinstance(model, AttentionBranchNetwork)
        return model

    def plain(self, **arguments: Any) -> Classifier:
        model = self._create("", **arguments)
        assert isinstance(model, Classifier)
        return model

    def _create(self, prefix: str, **arguments: Any) -> nn.Module:
        return create_model(prefix + self.name, **{"num_classes": NUM_CLASSES} | self.arguments | arguments)


VARIANTS = [
    Variant("cifar_resnet8", 2, SMALL, {"width": 4}),
    Variant("cifar_resnet8", 2, SMALL, {"width": 4, "block": "bottleneck"}),
    Variant("wide_resnet10_1", 2, SMALL),
    Variant("densenet_bc10_4", 4, SMALL),
    Variant("resnext11_2x4d", 2, SMALL),
    Variant("resnet", 16, LARGE, {"block": "basic", "layers": [1, 1, 1, 1], "width": 8}),
    Variant("resnet", 16, LARGE, {"block": "bottleneck", "layers": [1, 1, 1, 1], "width": 8}),
    Variant("se_resnet", 16, LARGE, {"block": "basic", "layers": [1, 1, 1, 1], "width": 16}),
    Variant("se_resnet", 16, LARGE, {"block": "bottleneck", "layers": [1, 1, 1, 1], "width": 8}),
    Variant("vgg11_cam", 16, LARGE),
    Variant("vgg11_bn_cam", 16, LARGE),
]
