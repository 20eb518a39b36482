from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from abn_fast.kernels import _dispatch, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.proofs import compiled_kernels
from abn_fast.proofs.cases import CIFAR, Case, cases
from abn_fast.proofs.compilations import compile_all
from abn_fast.proofs.compiled_kernels import problems
from abn_fast.proofs.machine_code import MachineCode, compile_launch, disassemble, gpu_target
from abn_fast.proofs.recorded import Recorded, recorded

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

CLEAN = MachineCode(
    64,
    0,
    1024,
    8,
    Counter({"LDG.E.128": 2, "STG.E.128": 2}),
    Counter({"EXIT": 1}),
    Counter({"features": 32}),
    Counter({"gated": 32}),
)


def gate(dtype: torch.dtype = torch.float16, target: str = "sm_90") -> Recorded:
    small = next(cases("attention_gate")).at(CIFAR._replace(batch=2))
    return next(iter(recorded(small, dtype, torch.contiguous_format, target)))


def found(launch: Recorded, **changes: Any) -> str:
    return "; ".join(problems(launch, replace(CLEAN, **changes)))


def test_what_is_wrong_with_machine_code_is_said() -> None:
    launch = gate()
    assert found(launch) == ""
    assert "spills 8 bytes" in found(launch, stack=8)
    assert "spills" in found(launch, rest=Counter({"STL.64": 1}))
    assert "RED.E.ADD" in found(launch, rest=Counter({"RED.E.ADD": 1}))
    assert "buffer_atomic_add_f32" in found(launch, rest=Counter({"buffer_atomic_add_f32": 1}))
    assert found(launch, shared=232_448) == ""
    assert "232449 bytes of shared memory; the card has 232448" in found(launch, shared=232_449)
    assert "move in 64 bits; expected 128" in found(launch, loop=Counter({"LDG.E.128": 2, "STG.E.64": 4}))


def test_other_ops_than_the_gate_move_64_bits_where_their_rows_allow() -> None:
    narrow = {"loop": Counter({"LDG.E.64": 4, "STG.E.128": 2})}
    launch = gate()
    pool = launch._replace(case=replace(launch.case, op="norm_relu_pool"))
    assert found(pool, **narrow) == ""
    narrower = {"loop": Counter({"LDG.E": 8, "STG.E": 8})}
    assert "move in 32 bits; expected 64" in found(pool, **narrower)
    assert found(pool._replace(row_bytes={"features": 98, "gated": 98}), **narrower) == ""


@pytest.mark.parametrize(("target", "name"), [("sm_80", "HMMA.16816.F32"), ("sm_90", "HGMMA.64x128x16.F32")])
def test_a_product_in_16_bits_uses_tensor_cores(target: str, name: str) -> None:
    launch = gate(target=target)
    product = launch._replace(kernel="evidence_kernel")
    assert found(product) == f"no {name.partition('.')[0]}"
    assert found(product, loop=CLEAN.loop + Counter({name: 4})) == ""


def test_there_is_no_fused_product_without_tensor_cores() -> None:
    assert "fused product" in found(gate(target="sm_75")._replace(kernel="evidence_kernel"))


def test_the_allocation_of_tensor_memory_is_no_atomic_sum() -> None:
    allocation = Counter({"ATOMS.OR": 1, "ATOMS.AND": 1})
    launch = gate(target="sm_100")
    assert "ATOMS.OR" in found(launch, rest=allocation)
    assert found(launch, rest=allocation + Counter({"UTCHMMA": 1})) == ""
    assert "ATOMS.ADD" in found(launch, rest=Counter({"ATOMS.ADD": 1, "UTCHMMA": 1}))


def test_tf32_in_float32_is_refused() -> None:
    names = CLEAN.loop + Counter({"HMMA.1688.F32.TF32": 4})
    assert found(gate(torch.float32), loop=names) == "TF32 in float32"


def test_a_configuration_that_no_case_uses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_kernels, "compile_all", lambda sources, jobs: [CLEAN] * len(sources))
    monkeypatch.setattr(compiled_kernels, "TARGETS", ("sm_90",))
    small = [replace(case, size=case.size._replace(batch=2)) for case in cases("attention_gate")][:1]
    monkeypatch.setattr(compiled_kernels, "_cases", lambda ops: iter(small))
    rows = compiled_kernels.rows(["sm_90"])
    unused = {row["kernel"]: row["problems"] for row in rows if row["target"] == "-"}
    assert unused
    assert all("no case uses row" in each for (each,) in unused.values())
    several_maps = small[0].at(small[0].size._replace(maps=3))
    monkeypatch.setattr(compiled_kernels, "_cases", lambda ops: iter([*small, several_maps]))
    assert all(row["target"] == "sm_90" for row in compiled_kernels.rows(["sm_90"]))


@triton.jit
def _careless_kernel(x, total, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(total, tl.sum(tl.load(x + i * n), 0))


def test_atomics_and_narrow_loads_of_a_real_kernel_are_seen(tmp_path: Path) -> None:
    x = torch.zeros(4096)
    launch = Launch(_careless_kernel, 4, x.device, (x, torch.zeros(1), 3), {"BLOCK": 1024, "num_warps": 4})
    for target in ("sm_80", "gfx942"):
        code = disassemble(compile_launch(launch, gpu_target(target)), tmp_path)
        narrow = gate(torch.float32, target)._replace(row_bytes={"x": 1024})
        wrong = "; ".join(problems(narrow, code))
        assert "not deterministic" in wrong
        assert "move in 32 bits; expected 128" in wrong


def test_results_are_kept_and_equal_sources_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = gate().source
    (first, second) = compile_all([source, source], folder=tmp_path)
    assert first == second
    assert first.registers > 0
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr("abn_fast.proofs.compilations.compile_source", None)
    assert compile_all([source], folder=tmp_path) == [first]


def test_other_constants_are_another_kernel(tmp_path: Path) -> None:
    case: Case = next(cases("gate_features")).at(CIFAR._replace(batch=1))
    sources = [
        next(iter(recorded(each, torch.float16, torch.contiguous_format, "sm_90"))).source
        for each in (case, case.at(case.size._replace(height=8)))
    ]
    compile_all(sources, jobs=2, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_launches_follow_the_pretended_architecture() -> None:
    row = {
        "kernel": "attention_gate.forward",
        "architecture": "sm_80",
        "configuration": {"tile_bytes": 4096, "block_pixels": 64, "num_warps": 4},
    }
    with _tuning.use([row]):
        tiles = {target: gate(target=target).configuration for target in ("sm_80", "sm_90")}
    assert tiles["sm_80"]["num_warps"] == 4
    assert tiles["sm_90"]["num_warps"] == 8
