from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast import kernels
from abn_fast.modules import (
    AttentionBranchNetwork,
    AttentionHeadOutput,
    ImageNetwork,
    MultiTaskABN,
    NormReluPool,
    TaskClassifier,
    _norm,
)


class Activations:
    """What the methods read of a plain network for a batch: each computed once, when it is first asked for.

    A method sees M = N images, or M = N * T where the network has T tasks, those of an image in a row.

    Args:
        network: in evaluation mode.
        images: [N, 3, H, W].
        targets: the class that each of the M explains, [M]; by default the predicted one.
    """

    def __init__(self, network: ImageNetwork, images: Tensor, targets: Tensor | None = None) -> None:
        self.network = network
        self.images = images
        self._targets = targets

    @cached_property
    def tasks(self) -> int | None:
        """T, or None where the network chooses one of K classes."""
        return self.network.num_classes if isinstance(self.network.get_classifier(), TaskClassifier) else None

    @cached_property
    def features(self) -> Tensor:
        """The extractor's features g, [N, C, h, w]."""
        return cast(Tensor, self.network.extractor(self.images))

    @cached_property
    def stage_output(self) -> Tensor:
        """The output of the perception branch's stage, [N, C', h', w']; [M, C', h', w'] in a multi-task ABN."""
        return self.network.perception_branch.forward_features(self.features)

    @cached_property
    def last_features(self) -> Tensor:
        """What the network pools, A [M, C', h', w']: the stage's output, past norm and ReLU if those follow it."""
        pool, output = self.network.perception_branch.pool, self.stage_output
        if isinstance(pool, NormReluPool):
            scale, shift = _norm.scale_shift(pool.bn, _norm.statistics(pool.bn, output))
            output = F.relu(scale[:, None, None] * output + shift[:, None, None]).to(output.dtype)
        elif torch.equal(pooled_features(self.network, output), pooled_features(self.network, F.relu(output))):
            output = F.relu(output)
        tasks = self.tasks
        return output if tasks is None or len(output) != len(self.images) else output.repeat_interleave(tasks, 0)

    def classify(self, last_features: Tensor) -> Tensor:
        """Logits [M, K] of the network for these last features A."""
        if self.tasks is None:
            return head_logits(self.network, last_features)
        classifier = cast(TaskClassifier, self.network.get_classifier())
        pooled = pooled_features(self.network, last_features)
        return classifier.of_each_task(pooled, len(self.images), slice(None)).flatten(0, 1)

    @cached_property
    def logits(self) -> Tensor:
        """Of the network, [M, K]."""
        return self.classify(self.last_features)

    @cached_property
    def targets(self) -> Tensor:
        """The class that each explains, [M]."""
        return self.logits.argmax(1) if self._targets is None else self._targets

    def by_task(self, values: Tensor) -> Tensor:
        """[M, ...] as [N, T, ...] where there are tasks."""
        return values if self.tasks is None else values.unflatten(0, (len(self.images), self.tasks))


class AttentionActivations(Activations):
    """Those of an attention branch network."""

    network: AttentionBranchNetwork

    @cached_property
    def attention_stage_output(self) -> Tensor:
        """The output f of the attention branch's stage, [N, C', h, w]."""
        return cast(Tensor, self.network.attention_branch.stage(self.features))

    @cached_property
    def evidence(self) -> Tensor:
        """The class evidence a = relu(bn2(class_conv(bn1(f)))), [N, K, h, w], which the head itself does not keep."""
        stage_output = self.attention_stage_output
        weight, bias = self.network.attention_branch.head._folded_class_conv(kernels.compute_dtype(stage_output))
        return F.relu(F.conv2d(stage_output.to(weight.dtype), weight, bias))

    @cached_property
    def attended(self) -> AttentionHeadOutput:
        """What the attention head returns."""
        return cast(AttentionHeadOutput, self.network.attention_branch.head(self.attention_stage_output, self.features))

    @cached_property
    def stage_output(self) -> Tensor:
        """On the gated features."""
        return self.network.perception_branch.forward_features(self.attended.gated)


class TaskActivations(Activations):
    """Those of a multi-task attention branch network."""

    network: MultiTaskABN

    @cached_property
    def score(self) -> Tensor:
        """The score maps s, [N, T, h, w]; the attention maps are their sigmoid."""
        return cast(Tensor, self.network.attention_branch(self.features))

    @cached_property
    def stage_output(self) -> Tensor:
        """On the features gated by each map, [N * T, C', h', w']."""
        network = self.network
        inputs, chunks = network._shared_inputs(self.features), []
        for score in self.score.split(network.task_chunk or network.num_classes, 1):
            gated, _ = network._gate(inputs, score, None)
            chunks.append(network._stage_output(gated).unflatten(0, (len(self.images), -1)))
        return torch.cat(chunks, 1).flatten(0, 1)


def activations_of(network: ImageNetwork, images: Tensor, targets: Tensor | None = None) -> Activations:
    """Those of any network of this library."""
    if isinstance(network, AttentionBranchNetwork):
        return AttentionActivations(network, images, targets)
    if isinstance(network, MultiTaskABN):
        return TaskActivations(network, images, targets)
    return Activations(network, images, targets)


def pooled_features(network: ImageNetwork, last_features: Tensor) -> Tensor:
    """What the network makes of its last features before the classifier."""
    if isinstance(network.perception_branch.pool, NormReluPool):
        return kernels.global_average_pool(last_features)
    return network.forward_head(last_features.clone(), pre_logits=True)  # which may work in place


def head_logits(network: ImageNetwork, last_features: Tensor) -> Tensor:
    """What pooling and classifier make of the last features."""
    if isinstance(network.perception_branch.pool, NormReluPool):
        return cast(Tensor, network.get_classifier()(pooled_features(network, last_features)))
    return network.forward_head(last_features.clone())
