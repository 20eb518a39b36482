from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast.kernels import ClassEvidence, Statistics
from abn_fast.modules import _norm


class EvidenceOps(NamedTuple):
    """One reduction of the class evidence, for each way in which bn2's statistics are known."""

    batch: Callable[..., tuple[ClassEvidence, Statistics]]
    affine: Callable[..., ClassEvidence]
    inference: Callable[..., ClassEvidence]


class EvidenceHead(nn.Module):
    """What every attention head shares: bn1 and class_conv before the class evidence a, evidence_conv after it.

    bn1 is folded into class_conv, and evidence_conv acts on GAP(a) instead of a: GAP(W2 a) = W2 GAP(a).
    """

    bn1: nn.BatchNorm2d | None

    def __init__(self, in_channels: int, num_classes: int, pre_norm: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.bn1 = nn.BatchNorm2d(in_channels) if pre_norm else None
        self._make_class_layers(num_classes)

    def reset_classes(self, num_classes: int) -> list[nn.Module]:
        """Replace the layers whose shape depends on the number of classes; returns the new ones."""
        old = self.class_conv.weight
        new = self._make_class_layers(num_classes)
        for layer in new:
            layer.to(device=old.device, dtype=old.dtype).train(self.training)
        return new

    def _make_class_layers(self, num_classes: int) -> list[nn.Module]:
        self.num_classes = num_classes
        self.class_conv = nn.Conv2d(self.in_channels, num_classes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_classes)
        self.evidence_conv = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        return [self.class_conv, self.bn2, self.evidence_conv]

    def _class_evidence(self, stage_output: Tensor, ops: EvidenceOps) -> ClassEvidence:
        if self._norms_are_constant():
            weight, bias = self._folded_class_conv(kernels.compute_dtype(stage_output))
            return ops.inference(stage_output, weight, bias)
        local = _norm.uses_local_statistics(self.bn2)
        z, lacking = self._class_scores(stage_output, normalised_next=local)  # [N, K, H, W], [K]
        if local:
            evidence, batch = ops.batch(z, self.bn2.weight, self.bn2.bias, eps=self.bn2.eps)
            batch = batch if lacking is None else Statistics(batch.mean + lacking, batch.var)
            _norm.update_running_statistics(self.bn2, batch, z.numel() // z.shape[1])
            return evidence
        return ops.affine(z, *_norm.scale_shift(self.bn2, _norm.statistics(self.bn2, z)))

    def _attention_logits(self, pooled: Tensor) -> Tensor:
        return F.linear(pooled, self.evidence_conv.weight.flatten(1))

    def _norms_are_constant(self) -> bool:
        norms = [self.bn2] if self.bn1 is None else [self.bn1, self.bn2]
        return not any(_norm.uses_batch_statistics(norm) for norm in norms)

    def _class_scores(self, stage_output: Tensor, normalised_next: bool) -> tuple[Tensor, Tensor | None]:
        """Class evidence before bn2, and what it lacks of each class's mean where bn2 takes that away."""
        weight, bn1 = self.class_conv.weight, self.bn1
        if bn1 is None:
            return F.conv2d(stage_output, weight), None
        layer = (stage_output, weight, bn1.weight, bn1.bias)
        if not _norm.uses_local_statistics(bn1):
            return kernels.norm_class_conv(*layer, _norm.statistics(bn1, stage_output), bn1.eps), None
        z, lacking, batch = kernels.batch_norm_class_conv(*layer, bn1.eps, normalised_next=normalised_next)
        _norm.update_running_statistics(bn1, batch, stage_output.numel() // stage_output.shape[1])
        return z, lacking

    def _folded_class_conv(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        scale, shift = _norm.scale_shift(self.bn2, _norm.running_statistics(self.bn2))
        weight, bn1 = self.class_conv.weight * scale[:, None, None, None], self.bn1
        if bn1 is not None:
            statistics = _norm.running_statistics(bn1)
            weight, added = kernels.fold_norm(weight, bn1.weight, bn1.bias, statistics, bn1.eps, dtype)
            shift = shift + added
        return weight.to(dtype), shift.to(dtype)
