"""What the compiler makes of class_evidence_inference and attention_gate_from_taps, for GPUs that are not there."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from abn_fast.kernels import _dispatch, _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.attention_gate_from_taps import _launch as _gate_launch
from abn_fast.kernels.attention_gate_from_taps import _triton as _gate_triton
from abn_fast.kernels.class_evidence_inference import _launch, _triton
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, compile_launch, disassemble, gpu_target
from tests.kernels._compiler import all_targets

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]
# N, C', K, C, H, W
IMAGENET = (32, 2048, 1000, 1024, 14, 14)
SHAPES = [IMAGENET, (1, *IMAGENET[1:]), (256, *IMAGENET[1:]), (32, 256, 100, 128, 16, 16)]
SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx90a": 65_536, "gfx942": 65_536}
PRODUCT = {"sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx90a": "v_mfma", "gfx942": "v_mfma"}


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, target: str
) -> list[Launch]:
    """Those of a head in inference, the product first and the gate last."""
    batch, stage_channels, classes, channels, *size = shape
    stage_output = torch.empty(batch, stage_channels, *size, dtype=dtype).contiguous(memory_format=memory_format)
    features = torch.empty(batch, channels, *size, dtype=dtype).contiguous(memory_format=memory_format)
    weight, bias = torch.empty(classes, stage_channels, 1, 1, dtype=dtype), torch.empty(classes, dtype=dtype)
    map_weight, vector = torch.empty(1, classes, 3, 3), torch.empty(1)
    with _tuning.pretend(target), _runtime.record() as made:
        _, taps = _launch.class_evidence_taps_inference(stage_output, weight, bias, map_weight)
        _gate_launch.attention_gate_from_taps(features, taps, vector, vector, True, dtype)
    return made


def check(launch: Launch, target: str, dtype: torch.dtype, folder: Path) -> None:
    code = disassemble(compile_launch(launch, gpu_target(target)), folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
    assert not code.uses(ATOMICS)
    assert not any("_atomic" in name for name in code.instructions)
    assert code.shared <= SHARED.get(target, 101_376)
    if launch.kernel is _triton.evidence_kernel:
        names = code.instructions
        if dtype.itemsize == 2 or target.startswith("gfx"):
            assert any(name.startswith(PRODUCT.get(target, "HMMA")) for name in names)
        else:
            assert not any(name.startswith(("HMMA", "HGMMA", "UTC")) for name in names)
        assert (code.vector_bits(["stage_output", "weight"]) or 0) >= 64
    if launch.kernel is _gate_triton.gate_kernel:
        assert code.vector_bits(["features", "gated"]) == 128


@pytest.mark.parametrize(
    ("target", "dtype", "memory_format"),
    [
        ("sm_90", torch.float16, torch.contiguous_format),
        ("sm_90", torch.bfloat16, torch.channels_last),
        ("sm_80", torch.float16, torch.channels_last),
        ("sm_80", torch.float32, torch.contiguous_format),
    ],
    ids=str,
)
def test_the_head_has_tensor_core_products_no_spills_and_no_atomics(
    target: str, dtype: torch.dtype, memory_format: torch.memory_format, tmp_path: Path
) -> None:
    made = launches(IMAGENET, dtype, memory_format, target)
    assert [each.kernel for each in made] == [_triton.evidence_kernel, _triton.pool_kernel, _gate_triton.gate_kernel]
    for launch in made:
        check(launch, target, dtype, tmp_path)


def test_float32_is_multiplied_in_tf32_only_where_torch_is_allowed_to(tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        product, *_ = launches(IMAGENET, torch.float32, torch.contiguous_format, "sm_80")
        on_amd, *_ = launches(IMAGENET, torch.float32, torch.contiguous_format, "gfx942")
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert on_amd.constants["PRECISION"] == "ieee"
    code = disassemble(compile_launch(product, gpu_target("sm_80")), tmp_path)
    assert any("TF32" in name for name in code.instructions)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx90a", "gfx942"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_products_no_spills_and_no_atomics(
    dtype: torch.dtype, memory_format: torch.memory_format, target: str, tmp_path: Path
) -> None:
    for shape in SHAPES:
        for launch in launches(shape, dtype, memory_format, target):
            check(launch, target, dtype, tmp_path)
