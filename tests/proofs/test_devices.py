import pytest

from abn_fast.proofs.devices import ARCHITECTURES, CARDS


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "resident"),
    [
        ("sm_90", 32, 0, 4, 64),
        ("sm_90", 40, 1024, 8, 48),  # 12 warps of 1280 registers in each quarter
        ("sm_90", 255, 0, 8, 8),
        ("sm_80", 168, 100_000, 8, 8),  # one block's shared memory of two
        ("sm_86", 32, 0, 16, 48),
        ("sm_86", 32, 40_000, 4, 8),
        ("sm_75", 64, 0, 8, 32),
        ("sm_80", 16, 0, 1, 32),  # no more than 32 blocks
        ("gfx942", 128, 0, 4, 16),
    ],
)
def test_resident_warps_follow_from_registers_shared_memory_and_blocks(
    target: str, registers: int, shared: int, warps: int, resident: int
) -> None:
    assert ARCHITECTURES[target].resident_warps(registers, shared, warps) == resident


def test_a_block_as_large_as_allowed_fits() -> None:
    for each in ARCHITECTURES.values():
        assert each.resident_warps(32, each.block_shared, 4) == 4


def test_published_float32_rates_follow_from_clocks() -> None:
    lanes = {"sm_80": 64, "sm_89": 128, "sm_90": 128}
    published = {"A100": 19.5e12, "H100": 67e12, "L4": 30.3e12, "RTX 4090": 82.6e12}
    for card in CARDS:
        computed = 2 * lanes[card.target] * card.multiprocessors * card.clock
        assert computed == pytest.approx(published[card.name], rel=0.01)
