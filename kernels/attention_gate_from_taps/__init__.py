import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import uses_triton, wants_gradient
from abn_fast.kernels.attention_gate import attention_gate
from abn_fast.kernels.attention_gate_from_taps import _ops
from abn_fast.kernels.attention_gate_from_taps._checks import check
from abn_fast.kernels.reference import Gate


def attention_gate_from_taps(
    features: Tensor,
    taps: Tensor,
    scale: Tensor,
    shift: Tensor,
    gate: Gate = "residual",
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """`attention_gate` of the map score that the taps of `class_evidence_taps_inference` sum to.

        score(i, j) = sum over parts p and taps (u, v) of taps_p,u,v(i + u - 1, j + v - 1), zero outside the image
        M = sigmoid(scale * score + shift)
        y = g * (1 + M)  ("residual")  or  g * M  ("product")

    Shapes: features [N, C, H, W], taps [N, 9 P, H, W], scale and shift [1] -> y [N, C, H, W], M [N, 1, H, W]. y has
    the dtype and memory format of the features, M the given dtype, by default that of the taps; the arithmetic is
    float32 (float64 for float64). Where a gradient is asked for this is the sum of the taps and `attention_gate`.

    Raises:
        AbnFastError: shapes that do not fit, integer tensors, several devices.
    """
    check(features, taps, scale, shift)
    if not uses_triton(features):
        return reference.attention_gate_from_taps(features, taps, scale, shift, gate, dtype)
    dtype = taps.dtype if dtype is None else dtype
    if wants_gradient(features, taps, scale, shift):
        gated, attention = attention_gate(features, reference.sum_taps(taps), scale, shift, gate)
        return gated, attention.to(dtype)
    gated, attention = _ops.attention_gate_from_taps(features, taps, scale, shift, gate == "residual", dtype)
    return gated, attention
