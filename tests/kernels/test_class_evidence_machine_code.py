"""What the compiler makes of the kernels of class_evidence, for GPUs that are not there."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget

from abn_fast.kernels import _dispatch, _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.class_evidence import _launch, _triton
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, compile_launch, disassemble

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]
SHARED = {75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, architecture: str, taps: bool = True
) -> list[Launch]:
    """The launches of a training step with batch statistics, then the backward's with given ones."""
    z = torch.empty(shape, dtype=dtype).contiguous(memory_format=memory_format)
    vector = torch.empty(shape[1])
    map_weight = torch.empty(1, shape[1], 3, 3) if taps else None
    with _tuning.pretend(architecture), _runtime.record() as made:
        mean, _, inverse, scale, shift = _launch.statistics(z, vector, vector, 1e-5)
        pooled, score = _launch.apply(z, scale, shift, map_weight, dtype)
        _launch.backward(pooled, score, z, scale, shift, map_weight, mean, inverse)
        _launch.backward(pooled, score, z, scale, shift, map_weight, None, None)
    return made


def check(launch: Launch, target: int, dtype: torch.dtype, folder: Path, taps: bool = True) -> None:
    compiled = compile_launch(launch, GPUTarget("cuda", target, 32))
    code = disassemble(compiled, folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
    assert not code.uses(ATOMICS)
    assert not any("TF32" in name for name in code.instructions)
    assert compiled.metadata.shared <= SHARED[target]
    features = launch.kernel in (_triton.statistics_kernel, _triton.apply_kernel, _triton.backward_kernel)
    if features:
        assert code.count_of("LDG", 64) + code.count_of("LDG", 128) > 0
    if features and launch.kernel is not _triton.statistics_kernel and taps and dtype.itemsize == 2 and target >= 80:
        assert code.uses({"HMMA", "HGMMA", "UTCHMMA"})


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_training_step_has_no_spills_no_atomics_wide_loads_and_tensor_cores(
    memory_format: torch.memory_format, tmp_path: Path
) -> None:
    for launch in launches((32, 1000, 14, 14), torch.float16, memory_format, "sm_80")[:7]:
        check(launch, 80, torch.float16, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", list(SHARED))
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_no_spills_no_atomics_and_no_tf32(
    dtype: torch.dtype, memory_format: torch.memory_format, target: int, tmp_path: Path
) -> None:
    if dtype == torch.bfloat16 and target < 80:
        return
    for shape in [(32, 1000, 14, 14), (32, 100, 16, 16)]:
        for launch in launches(shape, dtype, memory_format, f"sm_{target}"):
            check(launch, target, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", [75, 80, 90])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_the_log_map_and_odd_sizes_have_no_spills(
    dtype: torch.dtype, memory_format: torch.memory_format, target: int, tmp_path: Path
) -> None:
    for shape, taps in [((32, 1000, 14, 14), False), ((3, 7, 5, 7), True), ((2, 40, 28, 28), True)]:
        for launch in launches(shape, dtype, memory_format, f"sm_{target}", taps):
            check_no_spills(launch, target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_amd_targets_have_no_spills_and_no_atomics(
    dtype: torch.dtype, memory_format: torch.memory_format, arch: str
) -> None:
    for launch in launches((32, 1000, 14, 14), dtype, memory_format, arch):
        compiled = compile_launch(launch, GPUTarget("hip", arch, 64))
        text = compiled.asm["amdgcn"]
        assert ".vgpr_spill_count: 0" in text
        assert ".private_segment_fixed_size: 0" in text
        assert "_atomic" not in text
        assert compiled.metadata.shared <= 65_536


def check_no_spills(launch: Launch, target: int, folder: Path) -> None:
    code = disassemble(compile_launch(launch, GPUTarget("cuda", target, 32)), folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
