from collections import Counter

import pytest

from abn_fast.proofs.sass import moved_bits, parse, parse_amd, split_at_main_loop, vector_bits

NESTED = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;                    /* 0x00000a00ff017b82 */
                                                                             /* 0x000fe20000000800 */
        /*0010*/                   LDG.E R8, desc[UR8][R6.64] ;
        /*0020*/              @!P0 BRA 0x90 ;
        /*0030*/                   IADD3 R4, R4, 0x1, RZ ;
        /*0040*/               @P2 LDG.E.128 R32, desc[UR8][R54.64+0xc40] ;
        /*0050*/                   MUFU.EX2 R6, R10 ;
        /*0060*/               @P0 BRA 0x40 ;
        /*0070*/             @!UP1 STG.E.U16 desc[UR8][R2.64], R5 ;
        /*0080*/               @P1 BRA 0x30 ;
        /*0090*/                   LDS.128 R16, [R6+UR5] ;
        /*00a0*/               @P1 BRA 0x90 ;
        /*00b0*/                   EXIT ;
        /*00c0*/                   BRA 0xc0;
"""


def test_the_main_loop_is_the_innermost_that_moves_memory() -> None:
    loop, rest = split_at_main_loop(parse(NESTED))
    assert loop == Counter({"LDG.E.128": 1, "MUFU.EX2": 1, "BRA": 1})
    assert rest == Counter(
        {"LDC": 1, "LDG.E": 1, "BRA": 4, "IADD3": 1, "STG.E.U16": 1, "LDS.128": 1, "EXIT": 1},
    )


def test_without_a_loop_that_moves_memory_everything_is_outside() -> None:
    straight = "\n".join(line for line in NESTED.splitlines() if "0x40 ;" not in line and "0x30 ;" not in line)
    loop, rest = split_at_main_loop(parse(straight))
    assert not loop
    assert rest.total() == 11


def test_of_two_loops_the_one_that_moves_more_is_the_main_one() -> None:
    text = """
        /*0000*/ LDG.E R8, desc[UR8][R6.64] ;
        /*0010*/ @P0 BRA 0x0 ;
        /*0020*/ LDG.E.64 R8, desc[UR8][R6.64] ;
        /*0030*/ @P0 BRA 0x20 ;
"""
    assert split_at_main_loop(parse(text))[0] == Counter({"LDG.E.64": 1, "BRA": 1})


def test_loops_of_amd_end_in_a_branch_to_a_label_before_them() -> None:
    text = ".LBB0_1:\n\tbuffer_load_dwordx4 v[0:3], v4\n\tv_add_f32 v0, v1\n\ts_cbranch_scc1 .LBB0_1\n\ts_endpgm\n"
    loop, rest = split_at_main_loop(parse_amd(text))
    assert loop == Counter({"buffer_load_dwordx4": 1, "v_add_f32": 1, "s_cbranch_scc1": 1})
    assert rest == Counter({"s_endpgm": 1})


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("LDG.E", 32),
        ("LDG.E.U16", 16),
        ("LDG.E.S8.CONSTANT", 8),
        ("STG.E.128", 128),
        ("LDGSTS.E.BYPASS.128", 128),
        ("LDS.128", 0),
        ("MUFU.EX2", 0),
        ("buffer_load_ushort", 16),
        ("buffer_store_short", 16),
        ("global_load_ubyte", 8),
        ("global_store_dword", 32),
        ("buffer_load_dwordx4", 128),
        ("global_load_dwordx2", 64),
        ("ds_read_b128", 0),
    ],
)
def test_the_width_of_an_instruction_is_what_it_moves_in_global_memory(name: str, bits: int) -> None:
    assert moved_bits(name) == bits


def test_vectors_are_as_wide_as_the_bytes_that_are_wanted() -> None:
    names = Counter({"LDG.E.128": 2, "LDG.E.64": 1, "LDG.E": 5, "STG.E.64": 4})
    assert [vector_bits(names, False, wanted, 0) for wanted in (32, 33, 40, 41, 60)] == [128, 64, 64, 32, 32]
    assert vector_bits(names, True, 32, 0) == 64
    assert vector_bits(names, False, 200, 0) == 0


def test_vectors_of_lanes_that_are_always_idle_need_not_be_there() -> None:
    seven_of_eight = Counter({"LDG.E.128": 7, "LDG.E": 4})
    assert vector_bits(seven_of_eight, False, wanted=128, others=16) == 128
    half = Counter({"LDG.E.128": 4, "LDG.E": 16})
    assert vector_bits(half, False, wanted=128, others=0) == 32
