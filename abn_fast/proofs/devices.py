"""What is published about GPUs: limits of their multiprocessors, and rates of cards.

Limits of NVIDIA's: CUDA C++ Programming Guide, "Compute Capabilities". AMD's: CDNA 2 and CDNA 3 instruction set
architecture guides, and LLVM's AMDGPU user guide. Rates of the cards: see `CARDS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Limits of a multiprocessor (AMD: compute unit)."""

    name: str
    """sm_90, gfx942."""
    warps: int
    """Resident at once, at most."""
    blocks: int
    shared: int
    """Bytes of shared memory of a multiprocessor."""
    block_shared: int
    """Bytes of shared memory that one block may have."""
    threads: int = 32
    """Of a warp."""
    registers: int = 16384
    """32-bit registers of each of the four partitions, over all threads."""
    unit: int = 256
    """Registers are given to a warp in multiples of this number."""
    reserved: int = 1024
    """Bytes of shared memory that the system takes of every block."""

    def resident_warps(self, registers: int, shared: int, warps: int) -> int:
        """Warps that run at once where a block has `warps` warps, `shared` bytes, and each thread `registers`."""
        of_a_warp = -(-registers * self.threads // self.unit) * self.unit
        by_registers = 4 * (self.registers // of_a_warp) // warps
        by_shared = self.shared // (shared + self.reserved) if shared + self.reserved else self.blocks
        return warps * min(self.blocks, self.warps // warps, by_registers, by_shared)

    def occupancy(self, registers: int, shared: int, warps: int) -> float:
        """Resident warps over the most that can be resident."""
        return self.resident_warps(registers, shared, warps) / self.warps


def _amd(name: str) -> Architecture:
    # 512 vector registers for each of a SIMD's 64 lanes, accumulation registers included, in eights
    return Architecture(name, 32, 32, 65_536, 65_536, threads=64, registers=512 * 64, unit=8 * 64, reserved=0)


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("sm_75", 32, 16, 65_536, 65_536, reserved=0),
        Architecture("sm_80", 64, 32, 167_936, 166_912),
        Architecture("sm_86", 48, 16, 102_400, 101_376),
        Architecture("sm_89", 48, 24, 102_400, 101_376),
        Architecture("sm_90", 64, 32, 233_472, 232_448),
        Architecture("sm_100", 64, 32, 233_472, 232_448),
        Architecture("sm_120", 48, 24, 102_400, 101_376),
        _amd("gfx90a"),
        _amd("gfx942"),
    )
}
TARGETS = tuple(ARCHITECTURES)


@dataclass(frozen=True)
class Card:
    """Published rates of a card. Nothing here is measured by this project."""

    name: str
    target: str
    bandwidth: float
    """Bytes a second of device memory."""
    multiprocessors: int
    clock: float
    """Cycles a second, at which the published float32 rate holds."""
    tensor_16bit: float
    """Operations a second of the tensor cores, float16 with float32 sums, not sparse."""
    tensor_tf32: float
    latency: float
    """Cycles from a load to its value, from device memory."""
    issue: int = 4
    """Instructions of a warp that a multiprocessor starts a cycle."""
    special: int = 16
    """Threads that the special functions of a multiprocessor serve a cycle."""


CARDS = (
    Card("A100", "sm_80", 2.039e12, 108, 1.410e9, 312e12, 156e12, 466),
    Card("H100", "sm_90", 3.35e12, 132, 1.980e9, 989e12, 494e12, 479),
    Card("L4", "sm_89", 0.300e12, 58, 2.040e9, 121e12, 60e12, 542),
    Card("RTX 4090", "sm_89", 1.008e12, 128, 2.520e9, 165e12, 82.6e12, 542),
)
"""A100 SXM 80 GB and H100 SXM 80 GB, L4, RTX 4090, by NVIDIA's data sheets and architecture white papers.

Issue slots and special-function lanes: CUDA C++ Programming Guide, "Arithmetic Instructions". Latencies: Luo et al.,
"Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (arXiv 2402.13499), of A100, H100 and RTX 4090; the L4
has the multiprocessors of the latter.
"""
