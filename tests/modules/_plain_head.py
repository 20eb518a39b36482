"""Attention heads written out layer by layer."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.kernels import Gate
from abn_fast.modules import AttentionHead, LogMapAttentionHead

Head = AttentionHead | LogMapAttentionHead


class PlainHead(nn.Module):
    """The paper's chain of layers on copies of a head's own, under the same names."""

    bn2: nn.Module
    class_conv: nn.Module
    evidence_conv: nn.Module

    def __init__(self, head: Head) -> None:
        super().__init__()
        for name, layer in copy.deepcopy(head).named_children():
            self.add_module(name, layer)
        self.gate = head.gate

    def forward(self, stage_output: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers = dict(self.named_children())
        normed = layers["bn1"](stage_output) if "bn1" in layers else stage_output
        a = F.relu(self.bn2(self.class_conv(normed)))
        logits = self.evidence_conv(a).mean((2, 3))
        if "map_conv" in layers:
            attention = torch.sigmoid(layers["bn3"](layers["map_conv"](a)))
        else:
            attention = torch.log(1 + a).sum(1, keepdim=True)
        gated = features * (1 + attention) if self.gate == "residual" else features * attention
        return logits, gated, attention


def make_head(
    kind: type[Head], *, in_channels: int = 6, num_classes: int = 4, gate: Gate = "residual", pre_norm: bool = True
) -> Head:
    """A float64 head whose norms do something."""
    head = kind(in_channels, num_classes, gate, pre_norm)
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    return head.double()
