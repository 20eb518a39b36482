from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from abn_fast.kernels import Gate
from abn_fast.modules import (
    AttentionBranch,
    AttentionBranchNetwork,
    AttentionHead,
    Classifier,
    LogMapAttentionHead,
    MultiTaskABN,
    MultiTaskAttentionBranch,
    PerceptionBranch,
    task_classifier,
)

HeadFactory = Callable[[int, int, Gate], AttentionHead | LogMapAttentionHead]


@dataclass
class Backbone:
    """A classification network cut where the attention branch joins it (paper, section 3)."""

    extractor: nn.Module
    perception_stage: nn.Module
    attention_stage: Callable[[], nn.Module]
    """Makes a second copy of the last stage that keeps the resolution."""
    stage_channels: int
    pool: nn.Module
    classifier: nn.Module
    num_classes: int
    initialize: Callable[[nn.Module], None]
    attention_head: HeadFactory = AttentionHead


def plain_network(backbone: Backbone) -> Classifier:
    """The backbone without attention branch."""
    network = Classifier(backbone.extractor, _perception_branch(backbone), backbone.num_classes, backbone.initialize)
    return network.apply(backbone.initialize)


def attention_branch_network(backbone: Backbone, gate: Gate) -> AttentionBranchNetwork:
    """The backbone with its attention branch."""
    head = backbone.attention_head(backbone.stage_channels, backbone.num_classes, gate)
    network = AttentionBranchNetwork(
        backbone.extractor,
        AttentionBranch(backbone.attention_stage(), head),
        _perception_branch(backbone),
        backbone.num_classes,
        backbone.initialize,
    )
    return network.apply(backbone.initialize)


def multi_task_plain_network(backbone: Backbone) -> Classifier:
    """The backbone with two answers a task, the baseline: logits [N, T, 2]."""
    branch = _task_branch(backbone)
    network = Classifier(backbone.extractor, branch, backbone.num_classes, backbone.initialize)
    return network.apply(backbone.initialize)


def multi_task_network(backbone: Backbone, gate: Gate, task_chunk: int | None) -> MultiTaskABN:
    """The backbone with a multi-task attention branch."""
    network = MultiTaskABN(
        backbone.extractor,
        MultiTaskAttentionBranch(backbone.attention_stage(), backbone.stage_channels, backbone.num_classes),
        _task_branch(backbone),
        backbone.num_classes,
        gate,
        task_chunk,
        backbone.initialize,
    )
    return network.apply(backbone.initialize)


def _task_branch(backbone: Backbone) -> PerceptionBranch:
    classifier = task_classifier(backbone.classifier, backbone.num_classes)
    return PerceptionBranch(backbone.perception_stage, backbone.pool, classifier)


def _perception_branch(backbone: Backbone) -> PerceptionBranch:
    return PerceptionBranch(backbone.perception_stage, backbone.pool, backbone.classifier)
