"""What the compiler makes of the kernels of norm_class_conv, for GPUs that are not there."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from abn_fast.kernels import _dispatch, _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.norm_class_conv import _launch, _triton
from abn_fast.kernels.norm_class_conv._plain import Norm
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, MachineCode, compile_launch, disassemble, gpu_target
from tests.kernels._compiler import all_targets

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]
IMAGENET, CIFAR = (32, 2048, 1000, 14), (32, 256, 100, 16)
SHARED = {"sm_75": 65_536, "sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx90a": 65_536, "gfx942": 65_536}
SHARED |= dict.fromkeys(["sm_86", "sm_89", "sm_120"], 101_376)


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, target: str
) -> list[Launch]:
    """Those of a training step around torch's products, then the pass that takes the product's place on an sm_75."""
    batch, channels, classes, size = shape
    f = torch.empty(batch, channels, size, size, dtype=dtype, memory_format=memory_format)
    d_z = torch.empty(batch, classes, size, size, dtype=dtype, memory_format=memory_format)
    weight, vector = torch.empty(classes, channels), torch.empty(channels)
    norm = Norm(vector, vector, vector, vector, 1e-5)
    with _tuning.pretend(target), _runtime.record() as made:
        folded, shift = _launch.fold(f, weight, norm, dtype)
        _launch.weight_gradients(folded, shift, weight, norm, f)
        if target != "sm_75":
            _launch.input_gradient(d_z, f, weight, norm, vector, vector)
        _launch.add_statistics_gradient(f, f, norm, vector, vector)
    return made


def atomics(code: MachineCode) -> set[str]:
    """Atomic instructions, but for those with which a block books tensor memory: no value depends on their order."""
    booking = {"ATOMS.AND", "ATOMS.OR"} if code.uses({"UTCATOMSWS"}) else set()
    return {name for name in code.instructions if name.partition(".")[0] in ATOMICS} - booking


def check(launch: Launch, target: str, dtype: torch.dtype, folder: Path) -> MachineCode:
    code = disassemble(compile_launch(launch, gpu_target(target)), folder)
    assert code.stack == 0, launch
    assert not code.uses(LOCAL_MEMORY)
    assert not atomics(code)
    assert code.shared <= SHARED[target]
    if launch.kernel is _triton.statistics_gradient_kernel:
        row = dtype.itemsize * launch.constants["C" if launch.constants["LAST"] else "P"]
        assert code.vector_bits(["d_x", "x"]) == (128 if row % 16 == 0 else 64)
    return code


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(("target", "dtype"), [("sm_90", torch.float16), ("sm_80", torch.float32)], ids=str)
def test_a_training_step_has_no_spills_and_no_atomics(
    target: str, dtype: torch.dtype, memory_format: torch.memory_format, tmp_path: Path
) -> None:
    for launch in launches(IMAGENET, dtype, memory_format, target):
        code = check(launch, target, dtype, tmp_path)
        if launch.kernel is _triton.input_gradient_kernel:
            assert launch.programs >= 128
            assert code.uses({"HGMMA", "HMMA"}) == {"HGMMA" if target == "sm_90" else "HMMA"}
            assert launch.constants["PRECISION"] == ("ieee" if dtype == torch.float16 else "tf32x3")


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize("target", SHARED)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_no_spills_and_no_atomics(
    dtype: torch.dtype, memory_format: torch.memory_format, target: str, tmp_path: Path
) -> None:
    if dtype == torch.bfloat16 and target == "sm_75":
        return
    for shape in (IMAGENET, CIFAR):
        for launch in launches(shape, dtype, memory_format, target):
            check(launch, target, dtype, tmp_path)
