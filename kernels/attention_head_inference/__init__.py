from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels import reference
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector
from abn_fast.kernels._dispatch import uses_triton, wants_gradient
from abn_fast.kernels.attention_gate import attention_gate
from abn_fast.kernels.attention_head_inference import _ops
from abn_fast.kernels.class_evidence_inference import class_evidence_inference
from abn_fast.kernels.class_evidence_inference._checks import check
from abn_fast.kernels.reference import Gate, compute_dtype


def attention_head_inference(
    features: Tensor,
    stage_output: Tensor,
    weight: Tensor,
    bias: Tensor,
    map_weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    gate: Gate = "residual",
) -> tuple[Tensor, Tensor, Tensor]:
    """A whole attention head but its classifier, the norms folded, in two launches.

        a = relu(W' f + b')
        M = sigmoid(scale * map_conv(a) + shift)
        y = g * (1 + M)  ("residual")  or  g * M  ("product")

    `class_evidence_taps_inference`, whose sums for GAP are finished beside `attention_gate_from_taps`. Where a gradient
    is asked for it is `class_evidence_inference` and `attention_gate`.

    Shapes: features g [N, C, H, W], stage_output f [N, C', H, W], weight [K, C', 1, 1], bias [K], map_weight
    [1, K, 3, 3], scale and shift [1] -> GAP(a) [N, K], y [N, C, H, W], M [N, 1, H, W]. y has the dtype and memory
    format of the features, the others the dtype of the product (that of stage_output, or autocast's).

    Raises:
        AbnFastError: shapes or dtypes that do not fit, integer tensors, several devices.
    """
    check(stage_output, weight, bias, map_weight)
    check_images("features", features)
    if features.shape[::2] != stage_output.shape[::2] or features.shape[3] != stage_output.shape[3]:
        raise AbnFastError(
            f"features have shape {tuple(features.shape)}; expected [N, C, H, W] "
            f"for a stage output of shape {tuple(stage_output.shape)}"
        )
    check_vector("scale", scale, 1, "map")
    check_vector("shift", shift, 1, "map")
    check_same_kind({"features": features, "stage_output": stage_output, "scale": scale, "shift": shift})
    if not uses_triton(stage_output):
        return reference.attention_head_inference(features, stage_output, weight, bias, map_weight, scale, shift, gate)
    if wants_gradient(features, stage_output, weight, bias, map_weight, scale, shift):
        pooled, score = class_evidence_inference(stage_output, weight, bias, map_weight)
        return pooled, *attention_gate(features, score, scale, shift, gate)
    dtype = compute_dtype(stage_output)
    pooled, gated, attention = _ops.attention_head_inference(
        features,
        stage_output.to(dtype),
        weight.to(dtype),
        bias.to(dtype),
        map_weight,
        scale,
        shift,
        gate == "residual",
    )
    return pooled, gated, attention
