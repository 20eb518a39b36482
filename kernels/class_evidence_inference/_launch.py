"""From tensors to launches of the kernels."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast.kernels import _dispatch
from abn_fast.kernels._layout import memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import architecture, configuration
from abn_fast.kernels.attention_gate_from_taps._triton import score_kernel
from abn_fast.kernels.class_evidence_inference import _triton
from abn_fast.kernels.class_evidence_inference._plan import Plan, classes_of_a_part, make_plan, parts

_TRITON = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


class Pooling(NamedTuple):
    """What a launch still has to do for GAP: programs, arguments, and constants but the number of warps."""

    programs: int
    arguments: tuple[Tensor | int, ...]
    constants: dict[str, Any]
    warps: int


def class_evidence_taps_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GAP [N, K] and partial taps [N, 9 P, H, W]; without map weights partial log maps [N, P, H, W]."""
    pooled, taps, pooling = product(stage_output, weight, bias, map_weight)
    if pooling is not None:
        launch(
            _triton.pool_kernel,
            pooling.programs,
            stage_output.device,
            *pooling.arguments,
            **pooling.constants,
            num_warps=pooling.warps,
        )
    return pooled, taps


def product(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None
) -> tuple[Tensor, Tensor, Pooling | None]:
    """As `class_evidence_taps_inference`, with what is left to do for GAP; None where images are whole in a tile."""
    layout = memory_format(stage_output)
    stage_output = stage_output.contiguous(memory_format=layout)
    weight, bias = weight.contiguous(), bias.contiguous()
    batch, channels, height, width = stage_output.shape
    classes, pixels = len(weight), height * width
    acc = accumulator(stage_output)
    dtype = torch.float64 if acc == tl.float64 else torch.float32
    sizes = {
        "classes": classes,
        "all_pixels": batch * pixels,
        "part": classes_of_a_part(batch, pixels, classes),
    }
    options = configuration("class_evidence_inference.evidence", stage_output, **sizes)
    plan = make_plan(batch, pixels, classes, options)

    pooled = stage_output.new_empty((batch, classes))
    sums = pooled
    if not plan.whole:
        sums = stage_output.new_empty((plan.groups, plan.tiles, plan.slots, classes), dtype=dtype)
    maps = plan.parts * (1 if map_weight is None else 9)
    taps = stage_output.new_empty((batch, maps, height, width), dtype=dtype)
    launch(
        _triton.evidence_kernel,
        plan.programs,
        stage_output.device,
        stage_output,
        weight,
        bias,
        None if map_weight is None else map_weight.contiguous(),
        sums,
        taps,
        batch,
        plan.group,
        plan.tiles,
        CHANNELS=channels,
        CHANNELS_LAST=layout == torch.channels_last,
        LOG_MAP=map_weight is None,
        **_shared(plan, classes, pixels),
        PARTS=plan.parts,
        BLOCKS=plan.blocks,
        WHOLE=plan.whole,
        BLOCK_CLASSES=plan.block_classes,
        BLOCK_CHANNELS=min(options["block_channels"], max(16, triton.next_power_of_2(channels))),
        DOT_TAPS=stage_output.dtype.itemsize == 2,  # others have no product on tensor cores
        OPERAND=_operand(stage_output.dtype),
        PRECISION=_precision(stage_output),
        ACC=acc,
        num_warps=options["num_warps"],
        num_stages=options["num_stages"],
    )
    if plan.whole:
        return pooled, taps, None
    options = configuration("class_evidence_inference.pool", stage_output, **sizes)
    block = min(options["block_classes"], triton.next_power_of_2(classes))
    constants = {**_shared(plan, classes, pixels), "BLOCK_CLASSES": block, "ACC": acc}
    programs = batch * triton.cdiv(classes, block)
    return pooled, taps, Pooling(programs, (sums, pooled, plan.group, plan.tiles), constants, options["num_warps"])


def class_evidence_inference(
    stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GAP [N, K] and map score [N, 1, H, W]."""
    pooled, taps = class_evidence_taps_inference(stage_output, weight, bias, map_weight)
    batch, _, height, width = stage_output.shape
    score = stage_output.new_empty((batch, 1, height, width))
    options = configuration("class_evidence_inference.score", stage_output)
    block = min(options["block_pixels"], triton.next_power_of_2(height * width))
    launch(
        score_kernel,
        batch * triton.cdiv(height * width, block),
        stage_output.device,
        taps,
        score,
        parts(batch, height * width, len(weight)),
        HEIGHT=height,
        WIDTH=width,
        TAPS=1 if map_weight is None else 9,
        BLOCK=block,
        ACC=accumulator(stage_output),
        num_warps=options["num_warps"],
    )
    return pooled, score


def _shared(plan: Plan, classes: int, pixels: int) -> dict[str, Any]:
    return {"CLASSES": classes, "PIXELS": pixels, "SLOTS": plan.slots, "BLOCK_PIXELS": plan.block_pixels}


def _operand(dtype: torch.dtype) -> Any:
    # the interpreter multiplies the bits of bfloat16 as integers
    return tl.float32 if _dispatch.INTERPRETED and dtype == torch.bfloat16 else _TRITON[dtype]


def _precision(x: Tensor) -> str:
    allowed = x.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed and architecture(x.device).startswith("sm_") else "ieee"
