from collections import Counter
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from abn_fast.kernels import _dispatch
from abn_fast.proofs.cases import IMAGENET, cases
from abn_fast.proofs.devices import CARDS
from abn_fast.proofs.machine_code import MachineCode
from abn_fast.proofs.recorded import recorded
from abn_fast.proofs.roofline import Work, bytes_in_flight, limit, rows, tensor_operations, work
from abn_fast.proofs.sass import parse, split_at_main_loop

pytestmark = pytest.mark.skipif(_dispatch.INTERPRETED, reason="the interpreter switches the compiler off")

LOOP = """
        /*0000*/ LDG.E R1, desc[UR8][R2.64] ;
        /*0010*/ MUFU.EX2 R6, R10 ;
        /*0020*/ MUFU.RCP R6, R10 ;
        /*0030*/ LDG.E.128 R32, desc[UR8][R54.64] ;
        /*0040*/ HMMA.16816.F32 R4, R4, R6, R8 ;
        /*0050*/ MUFU.EX2 R6, R10 ;
        /*0060*/ STG.E.128 desc[UR8][R2.64], R32 ;
        /*0070*/ @P0 BRA 0x30 ;
        /*0080*/ EXIT ;
"""


def code(text: str = LOOP, registers: int = 64, shared: int = 0, warps: int = 4) -> MachineCode:
    return MachineCode(registers, 0, shared, warps, *split_at_main_loop(parse(text)), Counter(), Counter())


def test_the_loop_runs_as_often_as_the_lanes_of_a_program_take() -> None:
    turn = 4 * 32 * (16 + 16)  # bytes that 4 warps load and store
    done = work(code(), programs=10, lane_bytes=7 * turn, vector_bits=128)
    warps = 10 * 4
    assert done == Work(warps * (4 + 7 * 5), warps * (2 + 7), warps * 7 * 2 * 16 * 8 * 16)


def test_without_a_loop_every_instruction_runs_once() -> None:
    straight = code(LOOP.replace("@P0 BRA 0x30", "NOP"))
    assert work(straight, 10, 1e9, 128) == Work(40 * 9, 40 * 3, 40 * 4096)


def test_what_is_moved_outside_of_the_loop_needs_no_turn() -> None:
    prologue = LOOP.replace("LDG.E R1", "LDG.E.128 R1")
    turn = 4 * 32 * 32
    assert work(code(prologue), 1, 3 * turn + turn / 2, 128) == work(code(), 1, 3 * turn, 128)


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("HMMA.16816.F32.BF16", 4096),
        ("HMMA.1688.F32", 2048),
        ("HMMA.1688.F32.TF32", 2048),
        ("HGMMA.64x128x16.F32", 65536),
        ("FFMA", 0),
    ],
)
def test_operations_of_a_tensor_core_instruction_follow_from_its_shape(name: str, operations: int) -> None:
    assert tensor_operations(name) == operations


def test_bytes_in_flight_are_those_of_the_resident_warps() -> None:
    a100 = CARDS[0]
    # 64 registers: 32 warps; 466 cycles at 1.41 GHz of 2039 GB/s, on 108 multiprocessors
    warps, under_way, needed = bytes_in_flight(a100, code(), programs=10_000)
    assert (warps, under_way) == (32, 32 * 32 * 16)
    assert needed == pytest.approx(466 / 1.41e9 * 2.039e12 / 108)
    assert bytes_in_flight(a100, code(), programs=108)[0] == 4


def test_limits_are_those_of_large_batches_and_of_cards_that_keep_up() -> None:
    (gate, *_) = recorded(next(cases("attention_gate")), torch.float16, torch.channels_last, "sm_90")
    a100, h100, *_ = CARDS
    assert limit(gate, a100) == limit(gate, h100) == 0.6
    assert limit(gate._replace(case=gate.case.at(IMAGENET._replace(batch=1))), a100) is None
    evidence = gate._replace(case=replace(gate.case, op="class_evidence"))
    assert (limit(evidence, a100), limit(evidence, h100)) == (1.0, None)
    assert limit(evidence._replace(dtype=torch.float32), a100) is None
    assert limit(evidence._replace(kernel="statistics_kernel"), h100) == 0.6


@pytest.mark.slow
def test_the_gate_is_bound_by_memory_at_large_batches() -> None:
    found = rows(ops=["attention_gate"])
    assert all(row["ok"] for row in found)
    large = [row for row in found if row["batch"] >= 32]
    assert {row["bound"] for row in large} == {"memory"}
    assert {row["batch"] for row in found} == {1, 32, 256}
    assert {row["card"] for row in found} == {"A100", "H100", "L4", "RTX 4090"}
    for row in large:  # the same 32 lanes of 4 slots a cycle, in another way
        card = next(card for card in CARDS if card.name == row["card"])
        seconds = row["instructions_per_byte"] * row["bytes"] / 32 / (4 * card.multiprocessors * card.clock)
        assert row["issue_us"] == pytest.approx(1e6 * seconds, rel=0.01)
