"""What the compiler makes of the kernels of attention_gate, for GPUs that are not there."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget

from abn_fast.kernels import _dispatch, _runtime
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.attention_gate import _launch, _triton
from abn_fast.proofs.machine_code import (
    ATOMICS,
    LOCAL_MEMORY,
    compile_launch,
    disassemble,
)
from tests.kernels._compiler import all_targets

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]


def launches(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    residual: bool = True,
) -> list[Launch]:
    """The three launches of a training step, then the three for a given map; shape N, C, T, H, W."""
    batch, channels, maps, *size = shape
    features = torch.empty(batch, channels, *size, dtype=dtype, memory_format=memory_format)
    score = torch.empty(batch, maps, *size, dtype=dtype)
    vector = torch.empty(maps, dtype=torch.float32)
    with _runtime.record() as made:
        gated, attention = _launch.attention_gate(features, score, vector, vector, residual)
        _launch.attention_gate_backward(gated, attention, features, score, vector, vector, residual)
        _launch.gate_features(features, score, residual)
        _launch.gate_features_backward(gated, features, score, residual)
    return made


def check(launch: Launch, target: int, dtype: torch.dtype, folder: Path, vectors: bool = True) -> None:
    code = disassemble(compile_launch(launch, GPUTarget("cuda", target, 32)), folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
    assert not code.uses(ATOMICS)
    assert code.registers <= (128 if launch.constants["T"] == 1 else 168)
    assert code.shared <= 48 * 1024
    if vectors and launch.kernel is not _triton.map_gradient_kernel:
        reads = 2 if launch.kernel is _triton.backward_kernel else 1
        tile = launch.constants["BLOCK_A"] * launch.constants["BLOCK_B"] * dtype.itemsize
        needed = max(1, tile // (16 * 32 * launch.constants["num_warps"]))
        assert code.count_of("LDG", 128) >= reads * needed
        assert code.count_of("STG", 128) >= needed


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_training_step_has_no_spills_no_atomics_and_128_bit_loads(
    dtype: torch.dtype, memory_format: torch.memory_format, tmp_path: Path
) -> None:
    for launch in launches((32, 1024, 1, 14, 14), dtype, memory_format)[:3]:
        check(launch, 90, dtype, tmp_path)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("target", [75, 80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_no_spills_no_atomics_and_128_bit_loads(
    dtype: torch.dtype, memory_format: torch.memory_format, target: int, tmp_path: Path
) -> None:
    if dtype == torch.bfloat16 and target < 80:
        return
    for shape in [(32, 128, 1, 16, 16), (1, 512, 1, 7, 7), (8, 1024, 40, 14, 14)]:
        for launch in launches(shape, dtype, memory_format)[:3]:
            check(launch, target, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_odd_sizes_have_no_spills_and_no_atomics(memory_format: torch.memory_format, tmp_path: Path) -> None:
    for shape in [(3, 7, 3, 5, 7), (2, 5, 1, 1, 1)]:
        for launch in launches(shape, torch.float16, memory_format, residual=False):
            check(launch, 80, torch.float16, tmp_path, vectors=False)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_amd_targets_have_no_spills_and_no_atomics(
    dtype: torch.dtype, memory_format: torch.memory_format, arch: str
) -> None:
    for shape in [(32, 1024, 1, 14, 14), (8, 1024, 40, 14, 14)]:
        for launch in launches(shape, dtype, memory_format)[:3]:
            text = compile_launch(launch, GPUTarget("hip", arch, 64)).asm["amdgcn"]
            assert ".vgpr_spill_count: 0" in text
            assert ".private_segment_fixed_size: 0" in text
            assert "_atomic" not in text
