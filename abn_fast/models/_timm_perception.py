from typing import Any

from torch import Tensor, nn

from abn_fast.modules import PerceptionBranch


class TimmPerceptionBranch(PerceptionBranch):
    """A last stage and the head of a timm model, which keeps its own `forward_head` and `reset_classifier`.

    Args:
        stage: [N, C, H, W] -> [N, C', H', W'].
        head: the timm model without the modules that its `forward_features` uses.
    """

    classifier: Any

    def __init__(self, stage: nn.Module, head: nn.Module) -> None:
        super().__init__(stage, nn.Identity(), head)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, K] of the last stage's output; with `pre_logits` what the model's classifier takes."""
        output: Tensor = self.classifier.forward_head(x, pre_logits=pre_logits)
        return output

    def get_classifier(self) -> nn.Module:
        """The module that turns pooled features into logits."""
        classifier: nn.Module = self.classifier.get_classifier()
        return classifier

    def reset_classifier(self, num_classes: int) -> list[nn.Module]:
        """Have the model replace its classifier, or classifiers if it was distilled; returns the new ones."""
        weights = next(self.stage.parameters())
        self.classifier.reset_classifier(num_classes)
        self.classifier.to(device=weights.device, dtype=weights.dtype)  # older timm makes it float32 on the CPU
        new = self.classifier.get_classifier()
        return list(new) if isinstance(new, tuple) else [new]
