from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import uses_triton
from abn_fast.kernels.attention_gate import _ops
from abn_fast.kernels.attention_gate._checks import check_maps, check_vectors
from abn_fast.kernels.reference import Gate


def attention_gate(
    features: Tensor, score: Tensor, scale: Tensor, shift: Tensor, gate: Gate = "residual"
) -> tuple[Tensor, Tensor]:
    """Attention maps and the features that they gate (paper, section 3.2).

        M_t = sigmoid(scale_t * score_t + shift_t)
        y_t = g * (1 + M_t)  ("residual")  or  g * M_t  ("product")

    Shapes: features [N, C, H, W], score [N, T, H, W], scale and shift [T] -> y [N * T, C, H, W] (the maps of an image
    follow one another), M [N, T, H, W]. y has the dtype and memory format of the features, M the dtype of the score;
    the arithmetic is float32 (float64 for float64). Features that are neither contiguous nor channels_last are copied
    once, and so is a strided score.

    Raises:
        AbnFastError: shapes that do not fit, integer tensors, several devices; a second derivative on a GPU.
    """
    check_maps(features, "score", score)
    check_vectors(features, score, scale, shift)
    if uses_triton(features):
        gated, attention = _ops.attention_gate(features, score, scale, shift, gate == "residual")
        return gated, attention
    return reference.attention_gate(features, score, scale, shift, gate)


def gate_features(features: Tensor, attention: Tensor, gate: Gate = "residual") -> Tensor:
    """The features gated by given maps: features [N, C, H, W], attention [N, T, H, W] -> [N * T, C, H, W].

    Dtypes, strides and errors as in `attention_gate`.
    """
    check_maps(features, "attention", attention)
    if uses_triton(features):
        gated: Tensor = _ops.gate_features(features, attention, gate == "residual")
        return gated
    return reference.gate_features(features, attention, gate)
