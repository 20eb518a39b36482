from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels import accumulator
from abn_fast.modules import ABNOutput, MultiTaskOutput, abn_loss, multi_task_loss
from abn_fast.training.config import LossConfig
from abn_fast.training.distributed import sum_over_processes
from abn_fast.training.map_regularizer import map_area

Output = ABNOutput | MultiTaskOutput | Tensor


def loss_with_edited_maps(output: ABNOutput, target: Tensor, edited: Tensor, config: LossConfig) -> Tensor:
    """`loss_of` and, for images with an edited map, the weighted `map_distance` to it.

        L = abn_loss + map_weight * ||M - M_edited||^2

    Args:
        output: of the network.
        target: as of `abn_loss`.
        edited: [N, 2, H, W], the last two channels of `EditedMaps`' images.
        config: the weights.
    """
    distance = map_distance(output.attention.to(accumulator(output.attention.dtype)), edited)
    return loss_of(output, target, config) + config.map_weight * distance


def map_distance(attention: Tensor, edited: Tensor) -> Tensor:
    """||M - M_edited||^2 summed over a map's known pixels, the mean over all images (Mitsuhara et al., 2019).

    The edited maps are averaged down to the resolution of M. An image without an edited map counts 0.

    Source: Mitsuhara et al., "Embedding Human Knowledge into Deep Neural Network via Attention Map", 2019.

    Args:
        attention: M, [N, 1, h, w].
        edited: [N, 2, H, W]: values times known, and known (see `abn_fast.data.EditedMap`).
    """
    size = (attention.shape[2], attention.shape[3])
    values, known = F.adaptive_avg_pool2d(edited.to(attention.dtype), size).unbind(1)
    target = values / known.clamp_min(torch.finfo(known.dtype).tiny)
    return (known * (attention[:, 0] - target).square()).sum((1, 2)).mean()


def loss_of(output: Output, target: Tensor, config: LossConfig) -> Tensor:
    """`abn_loss` or `multi_task_loss`, and the weighted `map_area`; for a plain classifier its cross-entropy."""
    loss = _cross_entropy(output, target, config)
    if config.map_area_weight and not isinstance(output, Tensor):
        loss = loss + config.map_area_weight * map_area(output.attention)
    return loss


def _cross_entropy(output: Output, target: Tensor, config: LossConfig) -> Tensor:
    if is_multi_task(output):
        return multi_task_loss(
            output,  # type: ignore[arg-type]  # is_multi_task excludes ABNOutput
            target,
            attention_weight=config.attention_weight,
            perception_weight=config.perception_weight,
        )
    if isinstance(output, ABNOutput):
        return abn_loss(
            output,
            target,
            attention_weight=config.attention_weight,
            perception_weight=config.perception_weight,
            label_smoothing=config.label_smoothing,
        )
    assert isinstance(output, Tensor)
    logits = output.to(accumulator(output.dtype))
    return F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)


def is_multi_task(output: Output) -> bool:
    """Whether these are the logits of yes-or-no tasks."""
    return isinstance(output, MultiTaskOutput) or (isinstance(output, Tensor) and output.ndim == 3)


class Tally:
    """Sums over the images seen, kept on the device: images, loss, and correct predictions of both branches.

    Args:
        device: where they are kept.
        tasks: names of the tasks of a multi-task network; none for a network that chooses one class.
        attention: whether the network has an attention branch.
        sums: of another tally, to go on from.
    """

    def __init__(
        self, device: torch.device, tasks: Sequence[str], attention: bool, sums: Sequence[float] | None = None
    ) -> None:
        self._tasks, self._attention = list(tasks), attention
        size = 2 + (1 + attention) * max(1, len(tasks))
        self._sums = torch.tensor(sums or [0.0] * size, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, loss: Tensor, output: Output, target: Tensor) -> None:
        """Count one batch."""
        correct = [each.sum(0).double().view(-1) for each in _correct(output, target)]
        images = torch.full_like(correct[0][:1], len(target))
        self._sums += torch.cat([images, (loss.double() * len(target)).view(1), *correct])

    def sums(self) -> list[float]:
        """What `Tally(..., sums)` goes on from: the sums of this process."""
        return [float(value) for value in self._sums.tolist()]

    def means(self) -> dict[str, float]:
        """Loss an image and accuracies in %, over the images of all processes."""
        images, loss, *correct = sum_over_processes(self._sums).tolist()
        percent = [100 * value / max(images, 1) for value in correct]
        if not self._tasks:
            return {"loss": loss / max(images, 1)} | dict(zip(("top1", "attention_top1"), percent, strict=False))
        count = len(self._tasks)
        means = {"loss": loss / max(images, 1), "accuracy": sum(percent[:count]) / count}
        if self._attention:
            means["attention_accuracy"] = sum(percent[count:]) / count
        return means | {f"accuracy.{name}": value for name, value in zip(self._tasks, percent, strict=False)}


def _correct(output: Output, target: Tensor) -> list[Tensor]:
    """Whether each prediction [N] or [N, T] is right: the perception branch's, then the attention branch's if any."""
    logits: Any = output if isinstance(output, Tensor) else output.logits
    attention_logits = None if isinstance(output, Tensor) else output.attention_logits
    if is_multi_task(output):
        yes = target > 0.5
        own = logits[..., 1] > logits[..., 0]
        return [own == yes] + ([] if attention_logits is None else [(attention_logits > 0) == yes])
    label = target if target.ndim == 1 else target.argmax(1)  # mixed images count for their larger part
    return [each.argmax(1) == label for each in (logits, attention_logits) if each is not None]
