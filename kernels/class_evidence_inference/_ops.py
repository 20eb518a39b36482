"""The torch ops: schema and what they return. On a CPU they compute the reference. They have no backward."""

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._tuning import architecture
from abn_fast.kernels.class_evidence_inference._plan import classes_of_a_part, parts

WITHOUT_TENSOR_CORES = ("sm_70", "sm_72", "sm_75")
"""As far as Triton knows: there torch's product is faster than any of its."""


@torch.library.custom_op("abn_fast::class_evidence_taps_inference", mutates_args=())
def class_evidence_taps_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor
) -> tuple[Tensor, Tensor]:
    if fuses(stage_output):
        from abn_fast.kernels.class_evidence_inference import _launch

        return _launch.class_evidence_taps_inference(stage_output, weight, bias, map_weight)
    batch, _, height, width = stage_output.shape
    if runs_triton(stage_output):
        pooled, score = _from_product(stage_output, weight, bias, map_weight)
        taps = _empty_taps(stage_output, len(weight)).zero_()
        taps[:, 4] = score[:, 0]  # the tap that is not shifted
        return pooled, taps
    part = classes_of_a_part(batch, height * width, len(weight))
    pooled, taps = reference.class_evidence_taps_inference(stage_output, weight, bias, map_weight, part)
    return pooled, taps.contiguous()


@class_evidence_taps_inference.register_fake
def _(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_pooled(stage_output, weight), _empty_taps(stage_output, len(weight))


@torch.library.custom_op("abn_fast::class_evidence_inference", mutates_args=())
def class_evidence_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Without map weights the log map."""
    if fuses(stage_output):
        from abn_fast.kernels.class_evidence_inference import _launch

        return _launch.class_evidence_inference(stage_output, weight, bias, map_weight)
    if runs_triton(stage_output):
        return _from_product(stage_output, weight, bias, map_weight)
    if map_weight is None:
        pooled, score = reference.class_evidence_log_map_inference(stage_output, weight, bias)
    else:
        pooled, score = reference.class_evidence_inference(stage_output, weight, bias, map_weight)
    return pooled, score.contiguous()


@class_evidence_inference.register_fake
def _(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, _, height, width = stage_output.shape
    return _empty_pooled(stage_output, weight), stage_output.new_empty((batch, 1, height, width))


def fuses(stage_output: Tensor) -> bool:
    """Whether the product is ours."""
    return runs_triton(stage_output) and architecture(stage_output.device) not in WITHOUT_TENSOR_CORES


def _from_product(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    from abn_fast.kernels.class_evidence_inference import _composed

    pooled, score = _composed.class_evidence(stage_output, weight, bias, map_weight)
    return pooled, score.contiguous()


def _empty_pooled(stage_output: Tensor, weight: Tensor) -> Tensor:
    return stage_output.new_empty((stage_output.shape[0], weight.shape[0]))


def _empty_taps(stage_output: Tensor, classes: int) -> Tensor:
    batch, _, height, width = stage_output.shape
    maps = 9 * parts(batch, height * width, classes)
    return stage_output.new_empty((batch, maps, height, width), dtype=reference.accumulator(stage_output.dtype))
