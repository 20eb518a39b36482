from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from abn_fast.export.optimize.gate import SigmoidGate, gate_features
from abn_fast.export.optimize.head import InferenceHead
from abn_fast.export.outputs import ATTENTION, ATTENTION_LOGITS, CLASS_EVIDENCE, LOGITS
from abn_fast.modules import AttentionBranchNetwork, Classifier, ImageNetwork, MultiTaskABN, PerceptionBranch
from abn_fast.modules._classes import TaskClassifier
from abn_fast.modules.multi_task import tasks_together


class PlainBranches(nn.Module):
    """A classifier: images -> logits."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.extractor = network.extractor
        self.perception_branch = network.perception_branch

    def forward(self, images: Tensor) -> dict[str, Tensor | None]:
        """The outputs by name."""
        return {LOGITS: self.perception_branch(self.extractor(images))}


class AttentionBranches(nn.Module):
    """An attention branch network without the parts that its outputs do not need."""

    def __init__(self, network: AttentionBranchNetwork, outputs: Sequence[str], dtype: torch.dtype) -> None:
        super().__init__()
        self.extractor = network.extractor
        self.attention_stage = network.attention_branch.stage
        self.attention_head = InferenceHead(
            network.attention_branch.head,
            dtype,
            classifies=ATTENTION_LOGITS in outputs,
            gates=LOGITS in outputs or ATTENTION in outputs,
            keeps_evidence=CLASS_EVIDENCE in outputs,
        )
        self.perception_branch: PerceptionBranch | None = network.perception_branch if LOGITS in outputs else None

    def forward(self, images: Tensor) -> dict[str, Tensor | None]:
        """The outputs by name."""
        features = self.extractor(images)
        result = self.attention_head(self.attention_stage(features), features)
        return {
            CLASS_EVIDENCE: result.class_evidence,
            ATTENTION_LOGITS: result.attention_logits,
            ATTENTION: result.attention,
            LOGITS: None if self.perception_branch is None else self.perception_branch(result.gated),
        }


class MultiTaskBranches(nn.Module):
    """A multi-task network without the parts that its outputs do not need."""

    def __init__(self, network: MultiTaskABN, outputs: Sequence[str]) -> None:
        super().__init__()
        self.extractor = network.extractor
        self.attention_branch = network.attention_branch
        self.gate = SigmoidGate(network.gate)
        self.tasks = network.num_classes
        self.task_chunk = network.task_chunk
        self.perception_branch: PerceptionBranch | None = network.perception_branch if LOGITS in outputs else None

    def forward(self, images: Tensor) -> dict[str, Tensor | None]:
        """The outputs by name."""
        features = self.extractor(images)
        score = self.attention_branch(features)
        results: dict[str, Tensor | None] = {ATTENTION_LOGITS: score.mean((2, 3))}
        if self.perception_branch is None:
            return results | {ATTENTION: torch.sigmoid(score)}
        projected = self._projected(features)
        chunk = self.task_chunk or tasks_together(self.tasks, images)
        parts = []
        for start in range(0, self.tasks, chunk):
            tasks = slice(start, min(start + chunk, self.tasks))
            parts.append(self._perceive(self.perception_branch, projected, score[:, tasks], tasks))
        logits, maps = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        return results | {LOGITS: logits, ATTENTION: maps}

    def _projected(self, features: Tensor) -> tuple[Tensor, ...]:
        """What the maps gate: the features, or the outputs of the 1x1 convolutions that begin the stage."""
        first = projecting_block(cast(PerceptionBranch, self.perception_branch).stage)
        return (features,) if first is None else first.project(features)

    def _perceive(
        self, branch: PerceptionBranch, projected: tuple[Tensor, ...], score: Tensor, tasks: slice
    ) -> tuple[Tensor, Tensor]:
        """Logits [N, t, 2] and maps [N, t, H, W] of a chunk of tasks."""
        first = projecting_block(branch.stage)
        gated, attention = self.gate(projected[0], score)
        if first is None:
            stage_output = branch.forward_features(gated)
        else:
            down, right = _shortcut_stride(first)
            shortcut = gate_features(projected[1], attention[:, :, ::down, ::right], self.gate.gate)
            stage_output = first.finish(gated, shortcut)
            for block in list(cast(nn.Sequential, branch.stage))[1:]:
                stage_output = block(stage_output)
        pooled = branch.forward_head(stage_output, pre_logits=True)  # [N * t, F]
        classifier = cast(TaskClassifier, branch.classifier)
        return classifier.of_each_task(pooled, score.shape[0], tasks), attention


def projecting_block(stage: nn.Module) -> Any:
    """The stage's first block, if it begins with bias-free 1x1 convolutions."""
    first = stage[0] if isinstance(stage, nn.Sequential) else None
    return first if hasattr(first, "project") else None


def _shortcut_stride(block: Any) -> tuple[int, int]:
    """Of the 1x1 convolution in a block's shortcut; a static number, unlike a ratio of sizes."""
    if isinstance(block.downsample, nn.Identity):
        return 1, 1
    down, right = block.downsample[0].stride
    return down, right


def make_branches(network: ImageNetwork, outputs: Sequence[str], dtype: torch.dtype) -> nn.Module:
    """The parts of a network that these outputs need; the network is used up."""
    if isinstance(network, AttentionBranchNetwork):
        return AttentionBranches(network, outputs, dtype)
    if isinstance(network, MultiTaskABN):
        return MultiTaskBranches(network, outputs)
    return PlainBranches(cast(Classifier, network))
