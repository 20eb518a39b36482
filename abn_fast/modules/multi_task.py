from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast._checks import checked_choice, checked_whole
from abn_fast.kernels import Gate
from abn_fast.modules._classes import TaskClassifier
from abn_fast.modules.attention_head import GATES, check_given_attention, check_same_size
from abn_fast.modules.network import ImageNetwork, Initialize, keep_default_initialization
from abn_fast.modules.perception_branch import PerceptionBranch

IMAGES_TOGETHER = 32
"""Gated images that pass through the shared stage together on a CPU, unless `task_chunk` says how many tasks do: with
more of them the stage's activations leave the caches (`pytest bench/test_multitask.py -s -k together`)."""


class MultiTaskOutput(NamedTuple):
    """What a multi-task attention branch network returns."""

    attention_logits: Tensor
    """Logits of the attention branch, one a task, [N, T]: sigmoid gives its score."""
    logits: Tensor
    """Logits of the perception branch, [N, T, 2]: no and yes of each task, the prediction."""
    attention: Tensor
    """A map for each task, [N, T, H, W], at the resolution of the extractor's features."""


class MultiTaskAttentionBranch(nn.Module):
    """The attention branch for T tasks (paper, section 3.4): a stage at stride 1 and one score map a task.

        s = conv1x1(stage(g))
        attention logits = GAP(s),  M = sigmoid(s)

    Args:
        stage: the backbone's last stage with stride 1: [N, C, H, W] -> [N, C', H, W].
        stage_channels: C'.
        num_tasks: T.
    """

    def __init__(self, stage: nn.Module, stage_channels: int, num_tasks: int) -> None:
        super().__init__()
        self.stage = stage
        self.map_conv = _MapConv(stage_channels, num_tasks)

    def forward(self, features: Tensor) -> Tensor:
        """The score maps s [N, T, H, W] of features [N, C, H, W]."""
        stage_output = self.stage(features)
        check_same_size(stage_output, features)
        score: Tensor = self.map_conv(stage_output)
        return score

    def reset_tasks(self, num_tasks: int) -> nn.Module:
        """Replace map_conv by a fresh one for another number of tasks; returns it."""
        old = self.map_conv.weight
        self.map_conv = _MapConv(old.shape[1], num_tasks).to(device=old.device, dtype=old.dtype)
        return self.map_conv


class _MapConv(nn.Module):
    """A 1x1 convolution that backbones leave as it starts: no norm would bring its scores back to where they differ."""

    def __init__(self, in_channels: int, num_tasks: int) -> None:
        super().__init__()
        fresh = nn.Conv2d(in_channels, num_tasks, 1)
        self.weight, self.bias = fresh.weight, cast(nn.Parameter, fresh.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)


class MultiTaskABN(ImageNetwork):
    """An attention branch network for T yes-or-no tasks, each with its own map (paper, section 3.4).

        s = attention_branch(g),  M_t = sigmoid(s_t)
        logits_t = classifier_t(GAP(stage(g * (1 + M_t))))

    The perception branch's stage is shared; it sees the gated features of `task_chunk` tasks as one batch. Where the
    stage begins with bias-free 1x1 convolutions (bottleneck blocks), those run once on the features themselves and
    their outputs are gated: conv1x1(g * (1 + M)) = (1 + M) * conv1x1(g).

    In training, batch norm in the shared stage normalises over the images of all tasks of a chunk together. With
    `task_chunk=1` it normalises task by task and updates its running statistics T times, as the published code does.

    Args:
        extractor: images [N, 3, H, W] -> features g [N, C, h, w].
        attention_branch: features -> score maps.
        perception_branch: its classifier is a `TaskClassifier`.
        num_classes: T, the number of tasks.
        gate: "residual" g * (1 + M) or "product" g * M.
        task_chunk: tasks that pass through the shared stage together; None for all, and in eager evaluation on a CPU
            for as many as are fast there (`IMAGES_TOGETHER`).
        initialize: what `reset_classifier` applies to each new layer.

    Raises:
        AbnFastError: an unknown gate, or a chunk below 1.
    """

    def __init__(
        self,
        extractor: nn.Module,
        attention_branch: MultiTaskAttentionBranch,
        perception_branch: PerceptionBranch,
        num_classes: int,
        gate: Gate = "residual",
        task_chunk: int | None = None,
        initialize: Initialize = keep_default_initialization,
    ) -> None:
        super().__init__(extractor, perception_branch, num_classes, initialize)
        self.attention_branch = attention_branch
        self.gate: Gate = checked_choice("gate", gate, GATES)
        self.task_chunk = None if task_chunk is None else checked_whole("task_chunk", task_chunk)

    def forward(self, images: Tensor, attention: Tensor | None = None) -> MultiTaskOutput:
        """Both branches' logits and the attention maps.

        Args:
            images: [N, 3, H, W], of any size that the backbone takes.
            attention: maps [N or 1, T, h, w] to use instead of the network's own.

        Raises:
            AbnFastError: the given maps do not have the features' size; the message states it.
        """
        features = self.extractor(images)
        score = self.attention_branch(features)
        if attention is not None:
            attention = check_given_attention(attention, features, self.num_classes)
        inputs = self._shared_inputs(features)
        chunk = self.task_chunk or (self.num_classes if self.training else tasks_together(self.num_classes, images))
        logits, maps = [], []
        for start in range(0, self.num_classes, chunk):
            tasks = slice(start, start + chunk)
            given = None if attention is None else attention[:, tasks]
            gated, used = self._gate(inputs, score[:, tasks], given)
            logits.append(self._perceive(gated, tasks, len(images)))
            maps.append(used)
        return MultiTaskOutput(score.mean((2, 3)), torch.cat(logits, 1), torch.cat(maps, 1))

    def _shared_inputs(self, features: Tensor) -> tuple[Tensor, ...]:
        """What the maps gate: the features, or the outputs of the 1x1 convolutions that begin the stage."""
        first = _projecting_block(self.perception_branch.stage)
        return (features,) if first is None else first.project(features)

    def _gate(
        self, inputs: tuple[Tensor, ...], score: Tensor, given: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        if given is None:
            one, zero = score.new_ones(score.shape[1]), score.new_zeros(score.shape[1])
            first, attention = kernels.attention_gate(inputs[0], score, one, zero, self.gate)
        else:
            first, attention = kernels.gate_features(inputs[0], given, self.gate), given
        others = (kernels.gate_features(x, _at_stride_of(x, attention), self.gate) for x in inputs[1:])
        return (first, *others), attention

    def _stage_output(self, gated: tuple[Tensor, ...]) -> Tensor:
        """The shared stage's output [N * t, C', h', w'] for the gated inputs of the tasks of a chunk."""
        branch, first = self.perception_branch, _projecting_block(self.perception_branch.stage)
        if first is None:
            return branch.forward_features(*gated)
        stage_output = first.finish(*gated)
        for block in list(cast(nn.Sequential, branch.stage))[1:]:
            stage_output = block(stage_output)
        return stage_output

    def _perceive(self, gated: tuple[Tensor, ...], tasks: slice, batch: int) -> Tensor:
        """Logits [N, t, 2] of the tasks of a chunk, from their gated inputs [N * t, ...]."""
        branch = self.perception_branch
        pooled = branch.forward_head(self._stage_output(gated), pre_logits=True)  # [N * t, F]
        return cast(TaskClassifier, branch.classifier).of_each_task(pooled, batch, tasks)

    def _reset_class_layers(self, num_classes: int) -> list[nn.Module]:
        return [*super()._reset_class_layers(num_classes), self.attention_branch.reset_tasks(num_classes)]


def tasks_together(tasks: int, images: Tensor) -> int:
    """How many tasks pass through the shared stage together in evaluation, where that changes no result."""
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return tasks
    return max(1, min(tasks, IMAGES_TOGETHER // len(images)))


class _ProjectingBlock(Protocol):
    """A block that begins with bias-free 1x1 convolutions."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]: ...
    def finish(self, projected: Tensor, shortcut: Tensor) -> Tensor: ...


def _projecting_block(stage: nn.Module) -> _ProjectingBlock | None:
    first = stage[0] if isinstance(stage, nn.Sequential) else None
    return cast(_ProjectingBlock, first) if hasattr(first, "project") else None


def _at_stride_of(x: Tensor, attention: Tensor) -> Tensor:
    """The map where a 1x1 convolution with a stride, whose output is x, looked at the features."""
    strides = [-(-size // out) for size, out in zip(attention.shape[2:], x.shape[2:], strict=True)]
    return attention[:, :, :: strides[0], :: strides[1]]
