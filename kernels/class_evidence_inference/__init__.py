from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import uses_triton, wants_gradient
from abn_fast.kernels.class_evidence_inference import _ops
from abn_fast.kernels.class_evidence_inference._checks import check
from abn_fast.kernels.reference import ClassEvidence, compute_dtype


def class_evidence_inference(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor) -> ClassEvidence:
    """`class_evidence` with both norms folded into the class convolution: a = relu(W' f + b').

    GAP(a) and the map score map_conv(a) leave the product itself; the class evidence is never stored. Where a gradient
    is asked for it is: then this is torch's product and `class_evidence_affine`, whose backward needs it.

    Shapes: stage_output [N, C', H, W], weight [K, C', 1, 1], bias [K], map_weight [1, K, 3, 3] -> pooled [N, K],
    score [N, 1, H, W], both in the dtype of the product (that of stage_output, or autocast's). Products accumulate
    in float32 (float64 for float64). float32 is multiplied in TF32 only where `torch.backends.cuda.matmul` allows it.
    A stage output that is neither contiguous nor channels_last is copied once.

    Raises:
        AbnFastError: shapes or dtypes that do not fit, integer tensors, several devices.
    """
    check(stage_output, weight, bias, map_weight)
    if not uses_triton(stage_output):
        return reference.class_evidence_inference(stage_output, weight, bias, map_weight)
    return _class_evidence(stage_output, weight, bias, map_weight)


def class_evidence_log_map_inference(stage_output: Tensor, weight: Tensor, bias: Tensor) -> ClassEvidence:
    """`class_evidence_inference` of the SE-ResNet variant, whose score is its map: M = sum_k log(1 + a_k)."""
    check(stage_output, weight, bias)
    if not uses_triton(stage_output):
        return reference.class_evidence_log_map_inference(stage_output, weight, bias)
    return _class_evidence(stage_output, weight, bias, None)


def class_evidence_taps_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """`class_evidence_inference` with the nine taps of the score in its place, for `attention_gate_from_taps`.

    Returns GAP(a) [N, K] and taps [N, 9 P, H, W] in float32 (float64 for float64): sums over the classes of each of
    P parts, which follow one another. P grows as the batch shrinks: parts are what fills a card with few images.
    Where a gradient is asked for this is its plain definition, and P = 1.
    """
    check(stage_output, weight, bias, map_weight)
    if not fuses_inference(stage_output, weight, bias, map_weight):
        return reference.class_evidence_taps_inference(stage_output, weight, bias, map_weight)
    dtype = compute_dtype(stage_output)
    pooled, taps = _ops.class_evidence_taps_inference(
        stage_output.to(dtype), weight.to(dtype), bias.to(dtype), map_weight
    )
    return pooled, taps


def fuses_inference(*tensors: Tensor) -> bool:
    """Whether ops for inference run fused on these tensors: on a GPU, where no gradient is asked for."""
    return uses_triton(tensors[0]) and not wants_gradient(*tensors)


def _class_evidence(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None) -> ClassEvidence:
    given = () if map_weight is None else (map_weight,)
    if wants_gradient(stage_output, weight, bias, *given):
        from abn_fast.kernels.class_evidence_inference import _composed

        return _composed.class_evidence(stage_output, weight, bias, map_weight)
    dtype = compute_dtype(stage_output)
    return ClassEvidence(
        *_ops.class_evidence_inference(stage_output.to(dtype), weight.to(dtype), bias.to(dtype), map_weight)
    )
