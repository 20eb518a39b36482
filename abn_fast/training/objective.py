import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels import accumulator
from abn_fast.modules import ABNOutput, abn_loss
from abn_fast.training.config import TrainingConfig


def loss_of(output: ABNOutput | Tensor, target: Tensor, config: TrainingConfig) -> Tensor:
    """`abn_loss`, or for a plain classifier its cross-entropy."""
    if isinstance(output, ABNOutput):
        return abn_loss(
            output,
            target,
            attention_weight=config.attention_weight,
            perception_weight=config.perception_weight,
            label_smoothing=config.label_smoothing,
        )
    logits = output.to(accumulator(output.dtype))
    return F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)


class Tally:
    """Sums over the images seen, kept on the device: loss, correct predictions of both branches, images."""

    NAMES = ("loss", "correct", "attention_correct", "images")

    def __init__(self, device: torch.device, sums: list[float] | None = None) -> None:
        self._sums = torch.tensor(sums or [0.0] * len(self.NAMES), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, loss: Tensor, output: ABNOutput | Tensor, target: Tensor) -> None:
        """Count one batch."""
        branches = (output.logits, output.attention_logits) if isinstance(output, ABNOutput) else (output,)
        correct = [(logits.argmax(1) == target).sum() for logits in branches]
        attention = correct[1] if len(correct) > 1 else torch.zeros_like(correct[0])
        count = torch.full_like(correct[0], len(target))
        self._sums += torch.stack([loss.double() * len(target), correct[0], attention, count])

    def sums(self) -> list[float]:
        """What `Tally(device, sums)` goes on from."""
        return [float(value) for value in self._sums.tolist()]

    def means(self, has_attention: bool) -> dict[str, float]:
        """Loss an image and top-1 accuracies in %."""
        loss, correct, attention, images = self.sums()
        means = {"loss": loss / images, "top1": 100 * correct / images}
        return means | ({"attention_top1": 100 * attention / images} if has_attention else {})
