from collections.abc import Callable

from torch import Tensor, nn

from abn_fast._checks import checked_whole
from abn_fast.modules.attention_branch import AttentionBranch
from abn_fast.modules.config import ModelConfig
from abn_fast.modules.output import ABNOutput
from abn_fast.modules.perception_branch import PerceptionBranch

Initialize = Callable[[nn.Module], None]


def keep_default_initialization(module: nn.Module) -> None:
    """The initialisation that torch's layers give themselves."""


class ImageNetwork(nn.Module):
    """What `Classifier` and `AttentionBranchNetwork` share: an extractor, a perception branch, and their class count.

    Args:
        extractor: images [N, 3, H, W] -> features g [N, C, h, w].
        perception_branch: (gated) features -> logits [N, K].
        num_classes: K.
        initialize: what `reset_classifier` applies to each new layer.
    """

    def __init__(
        self,
        extractor: nn.Module,
        perception_branch: PerceptionBranch,
        num_classes: int,
        initialize: Initialize = keep_default_initialization,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.perception_branch = perception_branch
        self.num_classes = checked_whole("num_classes", num_classes)
        self.config: ModelConfig | None = None
        self._initialize = initialize

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, K] of the last stage's output; with `pre_logits` the pooled features."""
        return self.perception_branch.forward_head(x, pre_logits)

    def get_classifier(self) -> nn.Module:
        """The module that turns pooled features into logits."""
        return self.perception_branch.get_classifier()

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network another number of classes; the layers that depend on it start afresh."""
        for layer in self._reset_class_layers(checked_whole("num_classes", num_classes)):
            layer.apply(self._initialize)
        self.num_classes = num_classes
        if self.config is not None:
            self.config = self.config.with_arguments(num_classes=num_classes)

    def _reset_class_layers(self, num_classes: int) -> list[nn.Module]:
        return self.perception_branch.reset_classifier(num_classes)


class Classifier(ImageNetwork):
    """A plain image classifier, the baseline of an attention branch network with the same backbone."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K]."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The last stage's output, [N, C', h', w']."""
        return self.perception_branch.forward_features(self.extractor(images))


class AttentionBranchNetwork(ImageNetwork):
    """An attention branch network (Fukui et al., CVPR 2019): a classifier that draws its own visual explanation.

        g = extractor(x)
        attention logits, M = attention_branch(g)
        logits = perception_branch(g * (1 + M))

    Args:
        extractor: images [N, 3, H, W] -> features g [N, C, h, w].
        attention_branch: features -> attention logits, gated features and map.
        perception_branch: gated features -> logits [N, K].
        num_classes: K.
        initialize: what `reset_classifier` applies to each new layer.
    """

    def __init__(
        self,
        extractor: nn.Module,
        attention_branch: AttentionBranch,
        perception_branch: PerceptionBranch,
        num_classes: int,
        initialize: Initialize = keep_default_initialization,
    ) -> None:
        super().__init__(extractor, perception_branch, num_classes, initialize)
        self.attention_branch = attention_branch

    def forward(self, images: Tensor, attention: Tensor | None = None) -> ABNOutput:
        """Both branches' logits and the attention map.

        Args:
            images: [N, 3, H, W], of any size that the backbone takes.
            attention: a map [N or 1, 1, h, w] to use instead of the network's own, such as one that a person edited.

        Raises:
            AbnFastError: the given map does not have the features' size; the message states it.
        """
        attention_logits, gated, attention = self.attention_branch(self.extractor(images), attention)
        return ABNOutput(attention_logits, self.perception_branch(gated), attention)

    def forward_features(self, images: Tensor) -> Tensor:
        """The perception branch's last stage output on the gated features, [N, C', h', w']."""
        gated = self.attention_branch(self.extractor(images)).gated
        return self.perception_branch.forward_features(gated)

    def _reset_class_layers(self, num_classes: int) -> list[nn.Module]:
        layers = super()._reset_class_layers(num_classes)
        return [*layers, *self.attention_branch.head.reset_classes(num_classes)]
