from torch import Tensor, nn


class PublishedHead(nn.Module):
    """The attention head as the paper describes it, layer by layer: evidence_conv before GAP, every norm on its own."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.class_conv = nn.Conv2d(in_channels, num_classes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_classes)
        self.map_conv = nn.Conv2d(num_classes, 1, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(1)
        self.evidence_conv = nn.Conv2d(num_classes, num_classes, 1, bias=False)

    def forward(self, stage_output: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention logits, gated features and map."""
        evidence = self.bn2(self.class_conv(self.bn1(stage_output))).relu()
        attention = self.bn3(self.map_conv(evidence)).sigmoid()
        attention_logits = self.evidence_conv(evidence).mean((2, 3))
        return attention_logits, features * attention + features, attention
