from typing import NamedTuple

from torch import Tensor


class ABNOutput(NamedTuple):
    """What an attention branch network returns, in the order of the published code."""

    attention_logits: Tensor
    """Logits of the attention branch, [N, K]."""
    logits: Tensor
    """Logits of the perception branch, [N, K]: the prediction."""
    attention: Tensor
    """Attention map M, [N, 1, H, W], at the resolution of the extractor's features."""
