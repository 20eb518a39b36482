"""What the proof of traffic counts, by TRITON_INTERPRET=1 pytest and the name of this file."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast import kernels
from abn_fast.kernels import _dispatch
from abn_fast.kernels._runtime import launch
from abn_fast.proofs import traffic
from abn_fast.proofs.cases import CIFAR, cases
from abn_fast.proofs.traffic import Traffic

# mypy: disable-error-code="no-untyped-def"

assert _dispatch.INTERPRETED, "run with TRITON_INTERPRET=1"

CPU = torch.device("cpu")


@triton.jit
def copy_kernel(x, y, count, STRIDE: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803 - a constexpr
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i * STRIDE, mask=i < count), mask=i < count)


@triton.jit
def scale_kernel(x, scale, maps, y, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):  # noqa: N803 - constexprs
    program = tl.program_id(0)
    n, c = program // CHANNELS, program % CHANNELS
    i = tl.arange(0, PIXELS)
    factor = tl.load(scale + c) * tl.load(maps + n * PIXELS + i)
    tl.store(y + program * PIXELS + i, tl.load(x + program * PIXELS + i) * factor)


@triton.jit
def atomic_kernel(x):
    tl.atomic_add(x, 1.0)


@triton.jit
def described_kernel(x, y, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: N803 - constexprs
    source = tl.make_tensor_descriptor(x, [ROWS, COLUMNS], [COLUMNS, 1], [4, 8])
    target = tl.make_tensor_descriptor(y, [ROWS, COLUMNS], [COLUMNS, 1], [4, 8])
    target.store([0, 0], source.load([0, 0]))


def copied(x: Tensor, count: int, stride: int = 1, images: int | None = None, block: int = 64) -> Traffic:
    y = torch.empty(count, dtype=x.dtype)
    with Traffic(images) as counted:
        launch(copy_kernel, -(-count // block), CPU, x, y, count, STRIDE=stride, BLOCK=block)
    return counted


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_copy_moves_what_it_reads_and_what_it_writes(dtype: torch.dtype) -> None:
    counted = copied(torch.zeros(1000, dtype=dtype), 1000)
    assert counted.bytes == counted.launches[0].bytes == 2 * 1000 * dtype.itemsize
    assert counted.sector_use == pytest.approx(1, abs=0.01)
    assert counted.programs == 16


def test_a_read_of_every_fourth_number_uses_a_quarter_of_its_sectors() -> None:
    counted = copied(torch.zeros(4096), 1024, stride=4)
    assert counted.bytes == 2 * 4 * 1024
    assert counted.launches[0].sector_bytes == (1 + 4) * 4 * 1024
    assert counted.launches[0].unique_bytes == (1 + 4) * 4 * 1024


def scaled(batch: int, channels: int, pixels: int, images: int | None = None) -> Traffic:
    x = torch.ones(batch, channels, pixels, 1)
    scale, maps, y = torch.ones(channels), torch.ones(batch, 1, pixels, 1), torch.empty_like(x)
    with Traffic(images) as counted:
        launch(scale_kernel, batch * channels, CPU, x, scale, maps, y, CHANNELS=channels, PIXELS=pixels)
    return counted


def test_vectors_count_once_a_launch_and_maps_as_often_as_they_are_read() -> None:
    counted = scaled(batch=4, channels=16, pixels=8).launches[0]
    x, vector = 4 * 16 * 8 * 4, 16 * 4
    assert counted.vector_bytes == vector
    assert counted.bytes == 3 * x + vector
    assert counted.unique_bytes == 2 * x + 4 * 8 * 4 + vector


def test_two_images_tell_the_bytes_of_all() -> None:
    sampled, whole = scaled(8, 16, 8, images=8), scaled(8, 16, 8)
    assert sampled.launches == whole.launches


def test_launches_whose_images_differ_run_as_a_whole() -> None:
    x = torch.zeros(1000)  # the last program copies 40 numbers
    assert copied(x, 1000, images=16).launches == copied(x, 1000).launches


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_two_images_tell_the_bytes_of_an_op(memory_format: torch.memory_format) -> None:
    features = torch.zeros(6, 24, 5, 7).contiguous(memory_format=memory_format).requires_grad_()
    score, vector = torch.zeros(6, 1, 5, 7, requires_grad=True), torch.zeros(1)
    found = []
    for images in (None, 6):
        with Traffic(images) as counted:
            gated, attention = kernels.attention_gate(features, score, vector, vector)
            torch.autograd.grad((gated, attention), (features, score), (gated.detach(), attention.detach()))
        found.append([(each.kernel, each.bytes, each.vector_bytes) for each in counted.launches])
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_load_outside_of_every_tensor_fails() -> None:
    x, y = torch.zeros(100), torch.empty(200)
    with pytest.raises(Exception, match="copy_kernel reaches for bytes"), Traffic():
        launch(copy_kernel, 4, CPU, x, y, 200, STRIDE=1, BLOCK=64)


def test_an_atomic_fails() -> None:
    with pytest.raises(Exception, match="an atomic"), Traffic():
        launch(atomic_kernel, 1, CPU, torch.zeros(1))


def test_tensor_descriptors_count() -> None:
    x, y = torch.zeros(3, 8), torch.empty(3, 8)
    with Traffic() as counted:
        launch(described_kernel, 1, CPU, x, y, ROWS=3, COLUMNS=8)
    assert counted.bytes == 2 * x.nbytes


def test_torch_ops_count_what_they_read_and_write() -> None:
    x, y = torch.zeros(4, 8), torch.zeros(8)
    with Traffic() as counted:
        z = x + y
        z.mul_(2)
        z.view(2, 16)[0].expand(3, 16).detach()
        z.t()
        torch.empty(1000)
        torch.zeros(100)
    sizes = {"aten::add.Tensor": 2 * 128 + 32, "aten::mul_.Tensor": 2 * 128}
    assert {name: counted.torch_bytes[name] for name in sizes} == sizes
    assert sum(counted.torch_bytes.values()) - sum(sizes.values()) == 400
    weight = torch.zeros(3, 4, 1, 1)
    with Traffic() as counted:
        torch.nn.functional.conv2d(x[None, :, :, None], weight)
    assert counted.torch_bytes == {"aten::convolution": 128 + 48 + 96}


def test_a_copy_that_an_op_hides_is_seen() -> None:
    features, maps = torch.zeros(2, 16, 4, 6), torch.zeros(2, 1, 4, 6)
    moved = []
    for x in (features, features.transpose(2, 3).contiguous().transpose(2, 3)):
        with Traffic() as counted:
            kernels.gate_features(x, maps)
        moved.append(counted.bytes)
    assert moved[1] == moved[0] + 2 * features.nbytes


def test_nothing_is_counted_or_changed_afterwards() -> None:
    counted = copied(torch.arange(64.0), 64)
    before = counted.bytes
    y = torch.empty(64)
    launch(copy_kernel, 1, CPU, torch.arange(64.0), y, 64, STRIDE=1, BLOCK=64)
    assert counted.bytes == before
    assert torch.equal(y, torch.arange(64.0))


def test_an_op_has_a_row_for_each_direction() -> None:
    for row in rows_of_a_gate():
        assert row["ok"], row
        assert 1 < row["ratio"] <= row["limit"] == 1.03
        assert row["programs"] >= 128


@pytest.mark.parametrize(("name", "value"), [("moved_bytes", 10**12), ("sector_use", 0.5), ("programs", 64)])
def test_a_row_beyond_a_limit_is_not_ok(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Traffic, name, property(lambda _: value))
    assert not any(row["ok"] for row in rows_of_a_gate())


def rows_of_a_gate() -> list[traffic.Row]:
    case = next(case for case in cases("gate_features") if case.size == CIFAR)
    found = traffic.rows_of(case, torch.float16, torch.contiguous_format)
    assert [row["direction"] for row in found] == ["forward", "backward"]
    return found
