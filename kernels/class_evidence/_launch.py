"""From tensors to launches of the kernels."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast.kernels._dispatch import INTERPRETED
from abn_fast.kernels._layout import empty_like, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import architecture
from abn_fast.kernels.class_evidence import _triton
from abn_fast.kernels.class_evidence._plan import Plan, make_groups, make_plan, takes_one_pass

_OPERANDS = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.float32 if INTERPRETED else tl.bfloat16,  # the interpreter multiplies bfloat16 as integers
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}
_FINISH_BLOCK = 128
_CLASSES = 32


def statistics(z: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Mean, variance, 1 / deviation, scale and shift of each class, [5, K]."""
    z = z.contiguous(memory_format=memory_format(z))
    batch, classes, height, width = z.shape
    groups = make_groups(z, batch)
    acc = accumulator(z, weight, bias)
    partials = z.new_empty((groups.groups, 2, classes), dtype=_dtype(acc))
    launch(
        _triton.statistics_kernel,
        groups.programs(),
        z.device,
        z,
        partials,
        groups.total,
        groups.share,
        K=classes,
        PIXELS=height * width,
        CHANNELS_LAST=memory_format(z) == torch.channels_last,
        BLOCK_K=groups.block_classes,
        BLOCK_P=groups.block_pixels,
        ACC=acc,
        num_warps=groups.warps,
    )
    vectors = z.new_empty((5, classes), dtype=_dtype(acc))
    launch(
        _triton.merge_kernel,
        triton.cdiv(classes, _CLASSES),
        z.device,
        partials,
        weight.contiguous(),
        bias.contiguous(),
        vectors,
        groups.groups,
        groups.total,
        groups.share,
        K=classes,
        UNIT=1 if memory_format(z) == torch.channels_last else height * width,
        EPS=eps,
        BLOCK_K=_CLASSES,
        BLOCK_GROUPS=32,
        ACC=acc,
        num_warps=4,
    )
    return vectors


def apply(
    z: Tensor, scale: Tensor, shift: Tensor, map_weight: Tensor | None, score_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """GAP(a) and the score."""
    z = z.contiguous(memory_format=memory_format(z))
    batch, classes, height, width = z.shape
    plan = make_plan("apply", z, _taps(map_weight), batch)
    acc = accumulator(z, scale, shift)
    partials = z.new_empty((batch, plan.splits, plan.planes, height * width), dtype=_dtype(acc))
    pooled = z.new_empty((batch, classes))
    pools = None if plan.bands == 1 else z.new_empty((batch, plan.bands, classes), dtype=_dtype(acc))
    launch(
        _triton.apply_kernel,
        plan.programs(batch),
        z.device,
        z,
        scale.contiguous(),
        shift.contiguous(),
        _contiguous(map_weight),
        partials,
        pooled if pools is None else pools,
        plan.splits,
        plan.bands,
        plan.steps,
        PLANES=plan.planes,
        **_constants(plan, z),
        ACC=acc,
    )
    score = z.new_empty((batch, 1, height, width), dtype=score_dtype)
    scores = batch * triton.cdiv(height * width, _FINISH_BLOCK)
    launch(
        _triton.finish_kernel,
        scores + (0 if pools is None else batch * triton.cdiv(classes, _FINISH_BLOCK)),
        z.device,
        partials,
        pools,
        score,
        pooled,
        plan.splits,
        plan.bands,
        scores,
        K=classes,
        H=height,
        W=width,
        PLANES=plan.planes,
        BLOCK=_FINISH_BLOCK,
        ACC=acc,
        num_warps=4,
    )
    return pooled, score


def backward(
    d_pooled: Tensor,
    d_score: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    map_weight: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of z, weight (scale), bias (shift) and map_weight; of those in brackets where there is no mean."""
    z = z.contiguous(memory_format=memory_format(z))
    d_pooled, d_score = d_pooled.contiguous(), d_score.contiguous()
    scale, shift, map_weight = scale.contiguous(), shift.contiguous(), _contiguous(map_weight)
    mean, inverse = _contiguous(mean), _contiguous(inverse)
    batch, classes, height, width = z.shape
    acc = accumulator(z, scale, shift)
    taps = _taps(map_weight)
    rows = 2 + taps
    given = (d_pooled, d_score, z, scale, shift, mean, map_weight)

    d_z = empty_like(z)
    one_pass = mean is None and takes_one_pass(z, taps)
    plan = make_plan("backward" if one_pass else "reduce", z, taps, batch)
    sums = z.new_empty((batch * plan.bands, rows, classes), dtype=_dtype(acc))
    _launch_backward(plan, z, (*given, None, sums, d_z if one_pass else None), acc)

    d_scale, d_shift = torch.empty_like(scale), torch.empty_like(shift)
    lines = None if mean is None else z.new_empty((2, classes), dtype=_dtype(acc))
    d_map_weight = z.new_empty(0) if map_weight is None else torch.empty_like(map_weight)
    launch(
        _triton.sum_kernel,
        (rows - 1) * triton.cdiv(classes, _CLASSES),
        z.device,
        sums,
        scale,
        mean,
        inverse,
        d_scale,
        d_shift,
        lines,
        d_map_weight,
        len(sums),
        batch * height * width,
        ROWS=rows,
        K=classes,
        BLOCK_K=_CLASSES,
        BLOCK_COUNT=32,
        ACC=acc,
        num_warps=4,
    )
    if not one_pass:
        _launch_backward(make_plan("gradient", z, taps, batch), z, (*given, lines, None, d_z), acc)
    return d_z, d_scale, d_shift, d_map_weight


def _launch_backward(plan: Plan, z: Tensor, arguments: tuple[Tensor | None, ...], acc: Any) -> None:
    launch(
        _triton.backward_kernel,
        plan.programs(len(z)),
        z.device,
        *arguments,
        plan.splits,
        plan.bands,
        plan.steps,
        HALO=triton.next_power_of_2((plan.rows + 2) * z.shape[3]) if plan.rows else 0,  # a row above, a row below
        CLASSES_LAST=_stores_products(z) and memory_format(z) == torch.channels_last,
        **_constants(plan, z),
        ACC=acc,
    )


def _stores_products(z: Tensor) -> bool:
    """Whether the compiler stores a product from the registers that the matrix unit leaves it in: AMD's does."""
    return architecture(z.device).startswith("gfx")


def _constants(plan: Plan, z: Tensor) -> dict[str, Any]:
    _, classes, height, width = z.shape
    channels_last = memory_format(z) == torch.channels_last
    return {
        "K": classes,
        "H": height,
        "W": width,
        "STRIDE_K": 1 if channels_last else height * width,
        "STRIDE_P": classes if channels_last else 1,
        "BLOCK_K": plan.block_classes,
        "BLOCK_P": plan.block_pixels,
        "TILE": plan.tile,
        "ALONG_CLASSES": plan.along_classes,
        "OPERAND": _OPERANDS[z.dtype],
        "PRECISION": _precision(z),
        "num_warps": plan.warps,
        "num_stages": 1,
    }


def _precision(z: Tensor) -> str:
    allowed = z.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed and architecture(z.device).startswith("sm_") else "ieee"


def _taps(map_weight: Tensor | None) -> int:
    return 0 if map_weight is None else 9


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _dtype(acc: Any) -> torch.dtype:
    return torch.float64 if acc == tl.float64 else torch.float32
