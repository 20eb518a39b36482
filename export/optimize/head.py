from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.gate import SigmoidGate, gate_features
from abn_fast.modules import AttentionHead, LogMapAttentionHead, _norm

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class HeadResult(NamedTuple):
    """What the attention branch's head was asked for; None for the rest."""

    class_evidence: Tensor | None = None
    """a, [N, K, H, W]."""
    attention_logits: Tensor | None = None
    attention: Tensor | None = None
    gated: Tensor | None = None


class InferenceHead(nn.Module):
    """An attention head whose norms are folded: bn1 and bn2 into class_conv, bn3 into map_conv.

    Args:
        head: the trained head; it is used up.
        dtype: of the products.
        classifies: whether attention logits are asked for.
        gates: whether the map, or what it gates, is asked for.
        keeps_evidence: whether the class evidence itself is asked for; if not, the kernels never store it.

    Raises:
        AbnFastError: a norm keeps no running statistics.
    """

    def __init__(
        self,
        head: AttentionHead | LogMapAttentionHead,
        dtype: torch.dtype,
        *,
        classifies: bool,
        gates: bool,
        keeps_evidence: bool,
    ) -> None:
        super().__init__()
        for name, norm in head.named_children():
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is None:
                raise AbnFastError(f"the attention head's {name} keeps no running statistics: nothing can be folded")
        head.double()
        classes = head.num_classes
        self.class_conv = _filled(nn.Conv2d(head.in_channels, classes, 1), *head._folded_class_conv(dtype))
        self.map_conv: nn.Conv2d | None = None
        if gates and isinstance(head, AttentionHead):
            scale, shift = _norm.scale_shift(head.bn3, _norm.running_statistics(head.bn3))
            self.map_conv = _filled(nn.Conv2d(classes, 1, 3, padding=1), head.map_conv.weight * scale, shift)
        self.gate = SigmoidGate(head.gate)
        self.gates = gates
        self.keeps_evidence = keeps_evidence
        self.classifier: nn.Linear | None = None
        if classifies:
            self.classifier = _filled(nn.Linear(classes, classes, bias=False), head.evidence_conv.weight.flatten(1))

    def forward(self, stage_output: Tensor, features: Tensor) -> HeadResult:
        """What was asked for, of stage output [N, C', H, W] and features [N, C, H, W]."""
        if self.gates and not self.keeps_evidence and kernels.fuses_inference(stage_output, features):
            return self._fused(stage_output, features)
        evidence = F.relu(self.class_conv(stage_output))
        logits = None if self.classifier is None else self.classifier(kernels.global_average_pool(evidence))
        if not self.gates:
            return HeadResult(evidence, logits)
        if self.map_conv is None:
            attention = _sum_of_logs(evidence)
            gated = gate_features(features, attention, self.gate.gate)
        else:
            gated, attention = self.gate(features, self.map_conv(evidence))
        return HeadResult(evidence, logits, attention, gated)

    def _fused(self, stage_output: Tensor, features: Tensor) -> HeadResult:
        weight, bias = self.class_conv.weight, cast(Tensor, self.class_conv.bias)
        if self.map_conv is None:
            pooled, attention = kernels.class_evidence_log_map_inference(stage_output, weight, bias)
            gated = gate_features(features, attention, self.gate.gate)
        else:
            shift = cast(Tensor, self.map_conv.bias)
            pooled, gated, attention = kernels.attention_head_inference(
                features,
                stage_output,
                weight,
                bias,
                self.map_conv.weight,
                torch.ones_like(shift),
                shift,
                self.gate.gate,
            )
        logits = None if self.classifier is None else self.classifier(pooled)
        return HeadResult(None, logits, attention, gated)


def _sum_of_logs(evidence: Tensor) -> Tensor:
    logs = torch.log1p(evidence)
    # not every runtime adds up 16-bit values in 32 bits
    return logs.to(kernels.accumulator(logs.dtype)).sum(1, keepdim=True).to(logs.dtype)


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None = None) -> Layer:
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer
