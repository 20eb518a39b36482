from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from abn_fast import kernels
from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.modules import _norm
from abn_fast.modules._evidence_head import EvidenceHead, EvidenceOps

GATES: tuple[Gate, ...] = ("residual", "product")


class AttentionHeadOutput(NamedTuple):
    """What an attention head returns."""

    attention_logits: Tensor
    """[N, K]"""
    gated: Tensor
    """Features times the gate, [N, C, H, W]."""
    attention: Tensor
    """The map that gated them, [N, 1, H, W]."""


class AttentionHead(EvidenceHead):
    """The head of the attention branch, to put on any stage of convolutions (paper, sections 3.1 and 3.2).

        a = relu(bn2(class_conv(bn1(f))))
        M = sigmoid(bn3(map_conv(a)))
        attention logits = GAP(evidence_conv(a))
        gated = g * (1 + M)  ("residual")  or  g * M  ("product")

    Args:
        in_channels: channels of the stage output f.
        num_classes: K.
        gate: the mechanism that applies the map.
        pre_norm: whether bn1 stands before class_conv (the published ResNeXt has none).

    Raises:
        AbnFastError: an unknown gate.
    """

    def __init__(self, in_channels: int, num_classes: int, gate: Gate = "residual", pre_norm: bool = True) -> None:
        super().__init__(in_channels, num_classes, pre_norm)
        self.gate = checked_choice("gate", gate, GATES)
        self.bn3 = nn.BatchNorm2d(1)

    def _make_class_layers(self, num_classes: int) -> list[nn.Module]:
        layers = super()._make_class_layers(num_classes)
        self.map_conv = nn.Conv2d(num_classes, 1, 3, padding=1, bias=False)
        return [*layers, self.map_conv]

    def forward(self, stage_output: Tensor, features: Tensor, attention: Tensor | None = None) -> AttentionHeadOutput:
        """Attention logits, gated features and map.

        Shapes: stage_output [N, C', H, W], features [N, C, H, W], attention [N or 1, 1, H, W]: a map to use instead.
        """
        check_same_size(stage_output, features)
        if attention is None and self._is_fused(stage_output, features):
            return self._infer(stage_output, features)
        evidence = self._class_evidence(stage_output, self._evidence_ops())
        logits = self._attention_logits(evidence.pooled)
        if attention is not None:
            return AttentionHeadOutput(logits, *gate_given(features, attention, self.gate))
        scale, shift = _norm.scale_shift(self.bn3, _norm.statistics(self.bn3, evidence.score))
        gated, attention = kernels.attention_gate(features, evidence.score, scale, shift, self.gate)
        return AttentionHeadOutput(logits, gated, attention)

    def _is_fused(self, stage_output: Tensor, features: Tensor) -> bool:
        if not self._norms_are_constant() or _norm.uses_batch_statistics(self.bn3):
            return False
        return kernels.fuses_inference(stage_output, features, *self.parameters())

    def _infer(self, stage_output: Tensor, features: Tensor) -> AttentionHeadOutput:
        weight, bias = self._folded_class_conv(kernels.compute_dtype(stage_output))
        scale, shift = _norm.scale_shift(self.bn3, _norm.running_statistics(self.bn3))
        pooled, gated, attention = kernels.attention_head_inference(
            features, stage_output, weight, bias, self.map_conv.weight, scale, shift, self.gate
        )
        return AttentionHeadOutput(self._attention_logits(pooled), gated, attention)

    def _evidence_ops(self) -> EvidenceOps:
        weight = self.map_conv.weight
        return EvidenceOps(
            batch=partial(kernels.class_evidence, map_weight=weight),
            affine=partial(kernels.class_evidence_affine, map_weight=weight),
            inference=partial(kernels.class_evidence_inference, map_weight=weight),
        )

    def extra_repr(self) -> str:
        """The gate, for print(model)."""
        return f"gate={self.gate!r}"


class LogMapAttentionHead(EvidenceHead):
    """The head of the published SE-ResNet, whose map has no parameters and no upper bound.

        M = sum_k log(1 + a_k)

    Otherwise as `AttentionHead`.
    """

    def __init__(self, in_channels: int, num_classes: int, gate: Gate = "residual", pre_norm: bool = True) -> None:
        super().__init__(in_channels, num_classes, pre_norm)
        self.gate = checked_choice("gate", gate, GATES)

    def forward(self, stage_output: Tensor, features: Tensor, attention: Tensor | None = None) -> AttentionHeadOutput:
        """Attention logits, gated features and map; shapes as in `AttentionHead`."""
        check_same_size(stage_output, features)
        evidence = self._class_evidence(stage_output, _LOG_MAP_OPS)
        logits = self._attention_logits(evidence.pooled)
        attention = evidence.score if attention is None else attention
        return AttentionHeadOutput(logits, *gate_given(features, attention, self.gate))

    def extra_repr(self) -> str:
        """The gate, for print(model)."""
        return f"gate={self.gate!r}"


_LOG_MAP_OPS = EvidenceOps(
    batch=kernels.class_evidence_log_map,
    affine=kernels.class_evidence_log_map_affine,
    inference=kernels.class_evidence_log_map_inference,
)


def gate_given(features: Tensor, attention: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """Features gated by a given map, and that map for every image."""
    attention = check_given_attention(attention, features, 1)
    return kernels.gate_features(features, attention, gate), attention


def check_given_attention(attention: Tensor, features: Tensor, maps: int) -> Tensor:
    """The given maps for every image, [N, T, H, W]; maps of another size or number are refused."""
    batch, _, height, width = features.shape
    if not isinstance(attention, Tensor):
        raise AbnFastError(f"attention is a {type(attention).__name__}; expected a tensor: torch.as_tensor(...)")
    if attention.ndim != 4 or attention.shape[0] not in (1, batch) or attention.shape[1:] != (maps, height, width):
        raise AbnFastError(
            f"attention has shape {tuple(attention.shape)}; expected ({batch} or 1, {maps}, {height}, {width}), "
            "the size of the extractor's features: resize it with torch.nn.functional.interpolate"
        )
    return attention.expand(batch, -1, -1, -1)


def check_same_size(stage_output: Tensor, features: Tensor) -> None:
    """Refuse a stage that changed the resolution: its map could not gate the features."""
    if stage_output.shape[-2:] != features.shape[-2:]:
        raise AbnFastError(
            f"the stage turned features of {tuple(features.shape[-2:])} into {tuple(stage_output.shape[-2:])}; "
            "the attention branch's stage must keep their size: set its stride to 1"
        )
