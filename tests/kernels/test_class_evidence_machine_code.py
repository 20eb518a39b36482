"""What the compiler makes of the kernels of class_evidence, for GPUs that are not there."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from abn_fast.kernels import _dispatch, _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.class_evidence import _launch, _triton
from abn_fast.proofs.compiled_kernels import TENSOR_CORES, TENSOR_MEMORY, has
from abn_fast.proofs.devices import ARCHITECTURES, TARGETS
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, MachineCode, compile_launch, disassemble, gpu_target
from tests.kernels._compiler import all_targets

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]
IMAGENET, CIFAR = (32, 1000, 14, 14), (32, 100, 16, 16)
"""Rows of both, in both layouts and all dtypes, are whole vectors of 64 bits."""


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, target: str, taps: bool = True
) -> list[Launch]:
    """The launches of a training step with batch statistics, then the backward's with given ones."""
    z = torch.empty(shape, dtype=dtype).contiguous(memory_format=memory_format)
    vector = torch.empty(shape[1])
    map_weight = torch.empty(1, shape[1], 3, 3) if taps else None
    with _tuning.pretend(target), _runtime.record() as made:
        mean, _, inverse, scale, shift = _launch.statistics(z, vector, vector, 1e-5)
        pooled, score = _launch.apply(z, scale, shift, map_weight, dtype)
        _launch.backward(pooled, score, z, scale, shift, map_weight, mean, inverse)
        _launch.backward(pooled, score, z, scale, shift, map_weight, None, None)
    return made


def check(launch: Launch, target: str, folder: Path) -> MachineCode:
    code = disassemble(compile_launch(launch, gpu_target(target)), folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
    assert not atomics(code)
    assert code.shared <= ARCHITECTURES[target].block_shared
    return code


def check_features(code: MachineCode, launch: Launch, target: str, dtype: torch.dtype) -> None:
    bits = code.vector_bits(["z", "d_z"])
    assert bits is None or bits >= 64
    if dtype == torch.float32:
        assert not any("TF32" in name for name in code.instructions)
    elif launch.kernel in (_triton.apply_kernel, _triton.backward_kernel) and target != "sm_75":
        assert any(name.startswith(TENSOR_CORES) for name in code.instructions)


def atomics(code: MachineCode) -> set[str]:
    """Those of memory: a block books sm_100's tensor memory with atomics of its own."""
    found = {name for name in code.instructions if name.partition(".")[0] in ATOMICS or "_atomic" in name}
    return found - TENSOR_MEMORY if code.uses({"UTCATOMSWS"}) else found


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_training_step_has_no_spills_no_atomics_wide_loads_and_tensor_cores(
    memory_format: torch.memory_format, tmp_path: Path
) -> None:
    for launch in launches(IMAGENET, torch.float16, memory_format, "sm_80")[:7]:
        check_features(check(launch, "sm_80", tmp_path), launch, "sm_80", torch.float16)


def test_float32_is_multiplied_in_tf32_only_where_torch_is_allowed_to(tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        _, _, apply, *_ = launches(CIFAR, torch.float32, torch.channels_last, "sm_80")
        _, _, on_amd, *_ = launches(CIFAR, torch.float32, torch.channels_last, "gfx90a")
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert on_amd.constants["PRECISION"] == "ieee"
    assert any("TF32" in name for name in check(apply, "sm_80", tmp_path).instructions)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_no_spills_no_atomics_and_no_tf32(
    dtype: torch.dtype, memory_format: torch.memory_format, target: str, tmp_path: Path
) -> None:
    if not has(target, dtype):
        return
    for shape in (IMAGENET, CIFAR):
        for launch in launches(shape, dtype, memory_format, target):
            check_features(check(launch, target, tmp_path), launch, target, dtype)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_the_log_map_and_odd_sizes_have_no_spills(
    dtype: torch.dtype, memory_format: torch.memory_format, target: str, tmp_path: Path
) -> None:
    for shape, taps in [(IMAGENET, False), ((3, 7, 5, 7), True), ((2, 40, 28, 28), True)]:
        for launch in launches(shape, dtype, memory_format, target, taps):
            check(launch, target, tmp_path)
