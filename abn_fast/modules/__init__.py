"""Attention branch networks from parts: extractor, attention branch, perception branch."""

from abn_fast.modules._classes import TaskClassifier, task_classifier
from abn_fast.modules.attention_branch import AttentionBranch
from abn_fast.modules.attention_head import AttentionHead, AttentionHeadOutput, LogMapAttentionHead
from abn_fast.modules.config import ModelConfig
from abn_fast.modules.loss import abn_loss, multi_task_loss
from abn_fast.modules.multi_task import MultiTaskABN, MultiTaskAttentionBranch, MultiTaskOutput
from abn_fast.modules.network import AttentionBranchNetwork, Classifier, ImageNetwork
from abn_fast.modules.output import ABNOutput
from abn_fast.modules.perception_branch import PerceptionBranch
from abn_fast.modules.pooling import GlobalAveragePool, NormReluPool

__all__ = [
    "ABNOutput",
    "AttentionBranch",
    "AttentionBranchNetwork",
    "AttentionHead",
    "AttentionHeadOutput",
    "Classifier",
    "GlobalAveragePool",
    "ImageNetwork",
    "LogMapAttentionHead",
    "ModelConfig",
    "MultiTaskABN",
    "MultiTaskAttentionBranch",
    "MultiTaskOutput",
    "NormReluPool",
    "PerceptionBranch",
    "TaskClassifier",
    "abn_loss",
    "multi_task_loss",
    "task_classifier",
]
