import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels import accumulator
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



    """

    def cross_entropy(logits: Tensor) -> Tensor:
        logits = logits.to(accumulator(logits.dtype))
        return F.cross_entropy(logits, target, class_weight, label_smoothing=label_smoothing)

    attention = cross_entropy(output.attention_logits)
    return attention_weight * attention + perception_weight * cross_entropy(output.logits)
