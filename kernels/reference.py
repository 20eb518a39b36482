"""The plain definition of every op: the specification, the CPU path, what export traces, and the oracle of the tests.

Shapes: N images, C channels of the features g, C' channels of the stage output f, K classes, T attention maps.
Statistics, scales, shifts and sums are float32 (float64 for float64 inputs); feature-sized results have their input's
dtype.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Gate = Literal["residual", "product"]


class Statistics(NamedTuple):
    """Mean and biased variance of each channel, [C] each."""

    mean: Tensor
    var: Tensor


class ClassEvidence(NamedTuple):
    """What the network needs of the class evidence a: GAP(a), [N, K], and the map score, [N, 1, H, W]."""

    pooled: Tensor
    score: Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Dtype of statistics and sums over values of `dtype`: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def batch_statistics(x: Tensor) -> Statistics:
    """Mean and biased variance of x [N, C, H, W] over N, H and W."""
    var, mean = torch.var_mean(x.to(accumulator(x.dtype)), dim=(0, 2, 3), correction=0)
    return Statistics(mean, var)


def norm_scale_shift(weight: Tensor, bias: Tensor, statistics: Statistics, eps: float) -> tuple[Tensor, Tensor]:
    """Batch norm as a line: scale = weight / sqrt(var + eps), shift = bias - scale * mean, [C] each."""
    dtype = accumulator(weight.dtype)
    scale = weight.to(dtype) * torch.rsqrt(statistics.var.to(dtype) + eps)
    return scale, bias.to(dtype) - scale * statistics.mean.to(dtype)


def norm_class_conv(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    statistics: Statistics,
    eps: float,
) -> Tensor:
    """class_conv(bn1(f)) with bn1 folded into the weights: z = W' f + c, by `fold_norm`.

    Shapes: stage_output [N, C', H, W], weight [K, C', 1, 1], the vectors [C'] -> z [N, K, H, W].
    """
    folded, shift = fold_norm(weight, norm_weight, norm_bias, statistics, eps, compute_dtype(stage_output))
    return F.conv2d(stage_output, folded, shift.to(folded.dtype))


def fold_norm(
    weight: Tensor, norm_weight: Tensor, norm_bias: Tensor, statistics: Statistics, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Weights W' and shift c of a 1x1 convolution of f that equals the convolution W of a norm of f.

        W' = W diag(norm_weight / sqrt(var + eps)),  rounded to `dtype`
        c  = W norm_bias - W' mean,                  of the rounded W', which leaves the error no mean to multiply

    Shapes: weight [K, C', 1, 1], the vectors [C'] -> W' [K, C', 1, 1], c [K] in float32 (float64 for float64).
    """
    exact = accumulator(weight.dtype)
    mean, var = (value.to(exact) for value in statistics)
    scale = norm_weight.to(exact) * torch.rsqrt(var + eps)
    folded = (weight * scale[:, None, None]).to(dtype)
    # sums, not matrix products: autocast would compute those in 16 bits
    shift = weight * norm_bias.to(exact)[:, None, None] - folded.to(exact) * mean[:, None, None]
    return folded, shift.sum((1, 2, 3))


def class_evidence(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor, eps: float
) -> tuple[ClassEvidence, Statistics]:
    """Class evidence a = relu(bn2(z)) with batch statistics, reduced to GAP(a) and the map score map_conv(a).

    Shapes: z [N, K, H, W], weight and bias [K], map_weight [1, K, 3, 3].
    """
    evidence, statistics = _normalised_evidence(z, weight, bias, eps)
    return _reduce(evidence, map_weight), statistics


def class_evidence_affine(z: Tensor, scale: Tensor, shift: Tensor, map_weight: Tensor) -> ClassEvidence:
    """`class_evidence` for statistics that are known: a = relu(scale * z + shift), scale and shift [K]."""
    return _reduce(_affine_evidence(z, scale, shift), map_weight)


def class_evidence_log_map(z: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[ClassEvidence, Statistics]:
    """`class_evidence` of the SE-ResNet variant, whose score is its map: M = sum_k log(1 + a_k)."""
    evidence, statistics = _normalised_evidence(z, weight, bias, eps)
    return _reduce_log_map(evidence), statistics


def class_evidence_log_map_affine(z: Tensor, scale: Tensor, shift: Tensor) -> ClassEvidence:
    """`class_evidence_log_map` for statistics that are known: a = relu(scale * z + shift)."""
    return _reduce_log_map(_affine_evidence(z, scale, shift))


def class_evidence_inference(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor) -> ClassEvidence:
    """`class_evidence` with both norms folded: a = relu(W' f + b'), W' [K, C', 1, 1] and b' [K]."""
    return _reduce(F.relu(F.conv2d(stage_output, weight, bias)), map_weight)


def class_evidence_taps_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor, part: int | None = None
) -> tuple[Tensor, Tensor]:
    """`class_evidence_inference` with the nine taps of the score in its place, in float32 (float64 for float64).

    The taps of each `part` classes, by default of all, follow one another: GAP(a) [N, K], taps [N, 9 P, H, W].
    """
    evidence = F.relu(F.conv2d(stage_output, weight, bias))
    part = len(weight) if part is None else part
    parts = zip(evidence.split(part, 1), map_weight.split(part, 1), strict=True)
    taps = torch.cat([map_taps(*each) for each in parts], 1)
    return global_average_pool(evidence), taps.to(accumulator(taps.dtype))


def class_evidence_log_map_inference(stage_output: Tensor, weight: Tensor, bias: Tensor) -> ClassEvidence:
    """`class_evidence_inference` of the SE-ResNet variant."""
    return _reduce_log_map(F.relu(F.conv2d(stage_output, weight, bias)))


def map_taps(evidence: Tensor, map_weight: Tensor) -> Tensor:
    """The nine products of map_conv before it adds them up at shifted places: a [N, K, H, W] -> [N, 9, H, W]."""
    return F.conv2d(evidence, map_weight.to(evidence.dtype).permute(2, 3, 0, 1).flatten(0, 2)[..., None, None])


def attention_gate(
    features: Tensor, score: Tensor, scale: Tensor, shift: Tensor, gate: Gate = "residual"
) -> tuple[Tensor, Tensor]:
    """Attention maps and the features that they gate (paper, section 3.2).

        M_t = sigmoid(scale_t * score_t + shift_t)
        y_t = g * (1 + M_t)  ("residual")  or  g * M_t  ("product")

    Shapes: features [N, C, H, W], score [N, T, H, W], scale and shift [T] -> y [N * T, C, H, W] (the maps of an image
    follow one another), M [N, T, H, W].
    """
    attention = torch.sigmoid(score * scale[:, None, None] + shift[:, None, None])
    return gate_features(features, attention, gate), attention.to(score.dtype)


def attention_gate_from_taps(
    features: Tensor,
    taps: Tensor,
    scale: Tensor,
    shift: Tensor,
    gate: Gate = "residual",
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """`attention_gate` of the score that taps [N, 9, H, W] of `map_taps`, or partial ones [N, 9 P, H, W], sum to."""
    gated, attention = attention_gate(features, sum_taps(taps), scale, shift, gate)
    return gated, attention.to(taps.dtype if dtype is None else dtype)


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
    """GAP(a), gated features and map: `class_evidence_inference`, then `attention_gate`."""
    pooled, score = class_evidence_inference(stage_output, weight, bias, map_weight)
    return pooled, *attention_gate(features, score, scale, shift, gate)


def sum_taps(taps: Tensor) -> Tensor:
    """The map score [N, 1, H, W] in float32 (float64 for float64) of taps [N, 9 P, H, W]."""
    height, width = taps.shape[-2:]
    whole = taps.unflatten(1, (taps.shape[1] // 9, 9)).sum(1, dtype=accumulator(taps.dtype))
    padded = F.pad(whole, (1, 1, 1, 1))
    shifted = [padded[:, 3 * i + j, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(shifted).sum(0)[:, None]


def gate_features(features: Tensor, attention: Tensor, gate: Gate = "residual") -> Tensor:
    """The features gated by given maps: features [N, C, H, W], attention [N, T, H, W] -> [N * T, C, H, W]."""
    gates = 1 + attention if gate == "residual" else attention
    gated = features[:, None] * gates[:, :, None]  # [N, T, C, H, W]
    return gated.flatten(0, 1).to(features.dtype)


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Statistics]:
    """GAP(relu(bn(x))) with batch statistics, the tail of pre-activation networks: x [N, C, H, W] -> [N, C]."""
    normalised, statistics = _batch_norm(x, weight, bias, eps)
    return global_average_pool(F.relu(normalised)), statistics


def norm_relu_pool_affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`norm_relu_pool` for statistics that are known: GAP(relu(scale * x + shift))."""
    return global_average_pool(F.relu(_affine(x, scale, shift)))


def add_relu_pool(x: Tensor, residual: Tensor) -> Tensor:
    """GAP(relu(x + residual)), the tail of residual networks: [N, C, H, W] twice -> [N, C]."""
    return global_average_pool(F.relu(x + residual))


def global_average_pool(x: Tensor) -> Tensor:
    """GAP: the mean of x [N, C, H, W] over H and W, [N, C]."""
    return x.mean((2, 3))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of products with x: autocast's, else its own."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Statistics]:
    # a running average of momentum 1 is the batch's own mean and unbiased variance
    mean, unbiased = x.new_zeros((2, x.shape[1]), dtype=accumulator(x.dtype)).unbind()
    dtype = mean.dtype
    # torch's backward in channels_last misreads strided weights on a CPU
    vectors = weight.to(dtype).contiguous(), bias.to(dtype).contiguous()
    normalised = F.batch_norm(x, mean, unbiased, *vectors, True, 1.0, eps)
    count = x.numel() // x.shape[1]
    return normalised, Statistics(mean, unbiased * ((count - 1) / count))


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def _normalised_evidence(z: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Statistics]:
    normalised, statistics = _batch_norm(z, weight, bias, eps)
    return F.relu(normalised), statistics


def _affine_evidence(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.relu(_affine(z, scale, shift))


def _reduce(evidence: Tensor, map_weight: Tensor) -> ClassEvidence:
    score = F.conv2d(evidence, map_weight.to(evidence.dtype), padding=1)
    return ClassEvidence(global_average_pool(evidence), score)


def _reduce_log_map(evidence: Tensor) -> ClassEvidence:
    attention = torch.log1p(evidence).sum(1, keepdim=True)
    return ClassEvidence(global_average_pool(evidence), attention)
