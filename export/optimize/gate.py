import torch
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast.kernels import Gate


class SigmoidGate(nn.Module):
    """M = sigmoid(score) and the features that it gates: g * (1 + M) ("residual") or g * M ("product").

    Its own module, so that an export can put another node in its place.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, C, H, W] and score [N, T, H, W] -> gated [N * T, C, H, W], M [N, T, H, W]."""
        if kernels.fuses_inference(features, score):
            one, zero = score.new_ones(score.shape[1]), score.new_zeros(score.shape[1])
            return kernels.attention_gate(features, score, one, zero, self.gate)
        attention = torch.sigmoid(score)
        return gate_features(features, attention, self.gate), attention


def gate_features(features: Tensor, attention: Tensor, gate: Gate) -> Tensor:
    """The features gated by given maps: features [N, C, H, W], attention [N, T, H, W] -> [N * T, C, H, W]."""
    if attention.shape[1] > 1 or kernels.fuses_inference(features, attention):
        return kernels.gate_features(features, attention, gate)
    return features * (1 + attention if gate == "residual" else attention)
