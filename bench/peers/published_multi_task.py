from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.modules import MultiTaskABN, MultiTaskOutput


def task_by_task(model: MultiTaskABN, images: Tensor) -> MultiTaskOutput:
    """A multi-task network as published: one task after the other, the stage on the gated features themselves."""
    features = model.extractor(images)
    map_conv = model.attention_branch.map_conv
    score = F.conv2d(model.attention_branch.stage(features), map_conv.weight, map_conv.bias)
    attention = score.sigmoid()
    branch, logits = model.perception_branch, []
    classifier: Any = branch.classifier
    for t in range(model.num_classes):
        m = attention[:, t : t + 1]
        gated = features * (1 + m) if model.gate == "residual" else features * m
        pooled = branch.pool(branch.stage(gated))
        logits.append(F.linear(classifier.shared(pooled), classifier.tasks.weight[t], classifier.tasks.bias[t]))
    return MultiTaskOutput(score.mean((2, 3)), torch.stack(logits, 1), attention)
