from torch import Tensor, nn

from abn_fast.modules.attention_head import AttentionHead, AttentionHeadOutput, LogMapAttentionHead


class AttentionBranch(nn.Module):
    """A stage at stride 1 and its attention head (paper, section 3.1).

    Args:
        stage: the backbone's last stage with stride 1: [N, C, H, W] -> [N, C', H, W].
        head: what turns the stage output into attention logits and map.
    """

    def __init__(self, stage: nn.Module, head: AttentionHead | LogMapAttentionHead) -> None:
        super().__init__()
        self.stage = stage
        self.head = head

    def forward(self, features: Tensor, attention: Tensor | None = None) -> AttentionHeadOutput:
        """Attention logits, gated features and map of features [N, C, H, W]."""
        output: AttentionHeadOutput = self.head(self.stage(features), features, attention)
        return output
