"""The plugin's kernel on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

import pytest
import torch

from abn_fast.export.tensorrt.plugin._triton import gate_kernel
from abn_fast.export.tensorrt.plugin.kernel import compile_gate
from abn_fast.export.tensorrt.plugin.layout import GateSpec, divide
from abn_fast.kernels import Gate, _dispatch, reference

assert _dispatch.INTERPRETED, "run with TRITON_INTERPRET=1"

# N, C, T, H, W
SHAPES = [(2, 16, 1, 7, 7), (3, 24, 1, 4, 6), (2, 8, 3, 5, 3), (1, 5, 1, 3, 3), (5, 64, 1, 2, 2)]


CASES = [*((shape, torch.float32) for shape in SHAPES), (SHAPES[0], torch.float16), (SHAPES[2], torch.bfloat16)]


@pytest.mark.parametrize(("shape", "dtype"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fixed", [True, False])
def test_the_kernel_is_the_gate(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, fixed: bool
) -> None:
    batch, channels, maps, height, width = shape
    features = torch.randn(batch, channels, height, width).to(dtype).contiguous(memory_format=layout)
    score = torch.randn(batch, maps, height, width).to(dtype)
    residual = channels % 16 == 0
    pixels = height * width if fixed else 5 * height * width  # where sizes vary, those to be fastest at are others
    spec = GateSpec(channels, maps, dtype, dtype, layout == torch.channels_last, residual, 1 + batch % 2, pixels, fixed)
    division = divide(spec, "sm_80")
    gated = torch.full((batch * maps, channels, height, width), torch.nan, dtype=dtype).contiguous(memory_format=layout)
    attention = torch.full_like(score, torch.nan)
    gate_kernel[(division.programs(batch, height * width),)](
        features,
        score,
        division.splits,
        division.chunks,
        height * width,
        gated,
        attention,
        **division.constants(spec),
        num_warps=division.warps,
    )
    one, zero = torch.ones(maps), torch.zeros(maps)
    gate: Gate = "residual" if residual else "product"
    expected, expected_map = reference.attention_gate(features.double(), score.double(), one, zero, gate)
    for ours, truth in ((gated, expected), (attention, expected_map)):
        assert (ours.double() - truth).abs().max() <= truth.abs().max() * torch.finfo(dtype).eps


def test_where_triton_interprets_nothing_is_compiled() -> None:
    spec = GateSpec(8, 1, torch.float16, torch.float16, False, True, 1, 49, True)
    with pytest.raises(ValueError, match="interprets here: unset TRITON_INTERPRET"):
        compile_gate(spec, "sm_80")
