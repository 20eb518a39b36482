"""What the compiler makes of the kernels of batch_statistics, norm_relu_pool and add_relu_pool."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from abn_fast.kernels import _dispatch, _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.add_relu_pool import _launch as add
from abn_fast.kernels.batch_statistics import _launch as statistics
from abn_fast.kernels.norm_relu_pool import _launch as norm
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, compile_launch, disassemble, gpu_target
from tests.kernels._compiler import all_targets

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

FORMATS = [torch.contiguous_format, torch.channels_last]
FEATURES = {"x", "residual", "d_x", "d_sum"}


def launches(
    target: str, shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format
) -> list[Launch]:
    """Those that touch features, of a training step and of inference, as configured for the target."""
    x = torch.empty(shape, dtype=dtype, memory_format=memory_format)
    vector = torch.empty(shape[1])
    with _tuning.pretend(target), _runtime.record() as made:
        pooled, mean, var, sums, counts = norm.norm_relu_pool(x, vector, vector, 1e-5, True)
        norm.norm_relu_pool_backward(pooled, x, vector, vector, mean, var, sums, counts, 1e-5)
        for saves in (True, False):
            norm.norm_relu_pool_affine(x, vector, vector, saves)
        norm.norm_relu_pool_affine_backward(pooled, x, vector, vector, sums, counts)
        statistics.batch_statistics_backward(x, mean, mean, var)
        add.add_relu_pool(x, x)
        add.add_relu_pool_backward(pooled, x, x)
    return [launch for launch in made if "x" in launch.kernel.arg_names]


def check(launch: Launch, target: str, bits: int, folder: Path) -> None:
    code = disassemble(compile_launch(launch, gpu_target(target)), folder)
    assert code.stack == 0
    assert not code.uses(LOCAL_MEMORY)
    assert not code.uses(ATOMICS)
    assert code.registers <= 168
    assert code.shared <= 48 * 1024
    width = code.vector_bits(FEATURES)
    assert width is not None
    assert width >= bits


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_training_step_has_no_spills_no_atomics_and_vector_loads(
    memory_format: torch.memory_format, tmp_path: Path
) -> None:
    # rows of 392 bytes allow 64 bits
    bits = 64 if memory_format == torch.contiguous_format else 128
    for launch in launches("sm_90", (32, 2048, 14, 14), torch.float16, memory_format):
        check(launch, "sm_90", bits, tmp_path)


@all_targets
@pytest.mark.slow
@pytest.mark.parametrize(
    "target", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx90a", "gfx942"]
)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_target_has_no_spills_no_atomics_and_vector_loads(
    dtype: torch.dtype, memory_format: torch.memory_format, target: str, tmp_path: Path
) -> None:
    if dtype == torch.bfloat16 and target == "sm_75":
        return
    for shape, row_bits in [((32, 256, 16, 16), 128), ((32, 2048, 14, 14), 64), ((32, 1024, 7, 7), 8)]:
        bits = 128 if memory_format == torch.channels_last else row_bits
        for launch in launches(target, shape, dtype, memory_format):
            check(launch, target, bits, tmp_path)
