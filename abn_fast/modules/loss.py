import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels import accumulator
from abn_fast.modules.multi_task import MultiTaskOutput
from abn_fast.modules.output import ABNOutput


def abn_loss(
    output: ABNOutput,
    target: Tensor,
    *,
    attention_weight: float = 1.0,
    perception_weight: float = 1.0,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Training loss of an attention branch network (paper, section 3.3).

        L = attention_weight * CE(attention_logits, y) + perception_weight * CE(logits, y)

    The gradient of the second term reaches the attention branch through the map.

    Args:
        output: of the network.
        target: class indices [N], or probabilities [N, K].
        attention_weight: of the attention branch's cross-entropy.
        perception_weight: of the perception branch's.
        class_weight: [K], of both.
        label_smoothing: of both.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        logits = logits.to(accumulator(logits.dtype))
        return F.cross_entropy(logits, target, class_weight, label_smoothing=label_smoothing)

    attention = cross_entropy(output.attention_logits)
    return attention_weight * attention + perception_weight * cross_entropy(output.logits)


def multi_task_loss(
    output: MultiTaskOutput | Tensor,
    target: Tensor,
    *,
    attention_weight: float = 1.0,
    perception_weight: float = 1.0,
) -> Tensor:
    """Training loss of yes-or-no tasks (paper, section 3.4), the mean over images and tasks.

        L = attention_weight * BCE(sigmoid(attention_logits), y) + perception_weight * CE(logits, y)

    Args:
        output: of a multi-task attention branch network; logits [N, T, 2] alone have the second term alone.
        target: 1 for yes and 0 for no, [N, T].
        attention_weight: of the attention branch's binary cross-entropy.
        perception_weight: of the perception branch's cross-entropy.

    Raises:
        AbnFastError: the target is not one answer for each image and task.
    """
    attention_logits, logits = (None, output) if isinstance(output, Tensor) else output[:2]
    if logits.ndim != 3 or logits.shape[2] != 2 or target.shape != logits.shape[:2]:
        raise AbnFastError(
            f"target has shape {tuple(target.shape)} and logits {tuple(logits.shape)}; expected [N, T] and [N, T, 2]"
        )
    dtype = accumulator(logits.dtype)
    loss = perception_weight * F.cross_entropy(logits.to(dtype).flatten(0, 1), target.long().flatten())
    if attention_logits is None:
        return loss
    attention = F.binary_cross_entropy_with_logits(attention_logits.to(dtype), target.to(dtype))
    return loss + attention_weight * attention
