from torch import Tensor, nn

from abn_fast.modules._classes import reset_classes


class PerceptionBranch(nn.Module):
    """The backbone's last stage, pooling and classifier (paper, section 3.2).

    Args:
        stage: [N, C, H, W] -> [N, C', H', W'].
        pool: [N, C', H', W'] -> [N, F].
        classifier: [N, F] -> [N, K]; its last linear layer makes the logits.
    """

    def __init__(self, stage: nn.Module, pool: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.pool = pool
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, K] of (gated) features [N, C, H, W]."""
        return self.forward_head(self.forward_features(features))

    def forward_features(self, features: Tensor) -> Tensor:
        """The last stage's output, [N, C', H', W']."""
        output: Tensor = self.stage(features)
        return output

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, K] of the last stage's output; with `pre_logits` the pooled features [N, F]."""
        pooled = self.pool(x)
        output: Tensor = pooled if pre_logits else self.classifier(pooled)
        return output

    def get_classifier(self) -> nn.Module:
        """The module that turns pooled features into logits."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> list[nn.Module]:
        """Replace the last layer, of classes or tasks; returns the new one."""
        self.classifier, new = reset_classes(self.classifier, num_classes)
        return [new]
