import torch
from torch import Tensor

from abn_fast.kernels import _class_evidence_cpu, reference
from abn_fast.kernels._dispatch import uses_triton
from abn_fast.kernels.class_evidence import _ops
from abn_fast.kernels.class_evidence._checks import check_evidence, check_has_statistics
from abn_fast.kernels.reference import ClassEvidence, Statistics


def class_evidence(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor, eps: float
) -> tuple[ClassEvidence, Statistics]:
    """Class evidence a = relu(bn2(z)) with batch statistics, reduced to GAP(a) and the map score map_conv(a).

    Shapes: z [N, K, H, W], weight and bias [K], map_weight [1, K, 3, 3] -> GAP(a) [N, K], score [N, 1, H, W]; mean
    and biased variance [K], for running statistics: no gradient goes through them. GAP(a) and the score have the dtype
    of z, the score autocast's; the arithmetic is float32 (float64 for float64), products with map_weight are those of
    a convolution in z's dtype. A z that is neither contiguous nor channels_last is copied once. Neither a nor its
    gradient is ever stored, and of what is as large only z is saved for backward.

    Raises:
        AbnFastError: shapes that do not fit, integer tensors, several devices, fewer than 2 values for each class; a
            second derivative on a GPU.
    """
    check_evidence(z, {"weight": weight, "bias": bias}, map_weight)
    check_has_statistics(z)
    if uses_triton(z):
        return _batch(z, weight, bias, map_weight, eps)
    if _class_evidence_cpu.is_suited(z):
        return _class_evidence_cpu.class_evidence(z, weight, bias, map_weight, eps)
    return reference.class_evidence(z, weight, bias, map_weight, eps)


def class_evidence_affine(z: Tensor, scale: Tensor, shift: Tensor, map_weight: Tensor) -> ClassEvidence:
    """`class_evidence` for statistics that are known: a = relu(scale * z + shift), scale and shift [K].

    The batch may be empty. All else as in `class_evidence`.
    """
    check_evidence(z, {"scale": scale, "shift": shift}, map_weight)
    if uses_triton(z):
        return ClassEvidence(*_ops.class_evidence_affine(z, scale, shift, map_weight, _dtype_of_score(z)))
    return reference.class_evidence_affine(z, scale, shift, map_weight)


def class_evidence_log_map(z: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[ClassEvidence, Statistics]:
    """`class_evidence` of the SE-ResNet variant, whose score is its map: M = sum_k log(1 + a_k).

    The map has the dtype of z, under a GPU's autocast float32.
    """
    check_evidence(z, {"weight": weight, "bias": bias}, None)
    check_has_statistics(z)
    if uses_triton(z):
        return _batch(z, weight, bias, None, eps)
    return reference.class_evidence_log_map(z, weight, bias, eps)


def class_evidence_log_map_affine(z: Tensor, scale: Tensor, shift: Tensor) -> ClassEvidence:
    """`class_evidence_log_map` for statistics that are known: a = relu(scale * z + shift), scale and shift [K]."""
    check_evidence(z, {"scale": scale, "shift": shift}, None)
    if uses_triton(z):
        return ClassEvidence(*_ops.class_evidence_affine(z, scale, shift, None, _dtype_of_log_map(z)))
    return reference.class_evidence_log_map_affine(z, scale, shift)


def _batch(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None, eps: float
) -> tuple[ClassEvidence, Statistics]:
    score_dtype = _dtype_of_log_map(z) if map_weight is None else _dtype_of_score(z)
    pooled, score, vectors = _ops.class_evidence(z, weight, bias, map_weight, eps, score_dtype)
    mean, var, *_ = vectors.detach().unbind()
    return ClassEvidence(pooled, score), Statistics(mean, var)


def _dtype_of_score(z: Tensor) -> torch.dtype:
    """That of a convolution."""
    return z.dtype if z.dtype == torch.float64 else reference.compute_dtype(z)


def _dtype_of_log_map(z: Tensor) -> torch.dtype:
    """That of torch.log1p: on a GPU autocast computes it in float32."""
    autocast = z.is_cuda and torch.is_autocast_enabled("cuda")
    return reference.accumulator(z.dtype) if autocast else z.dtype
