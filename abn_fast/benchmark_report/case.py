from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

FIELDS = ("batch", "size", "classes", "tasks", "processes")
"""The numbers of a case along which cost may be drawn."""


@dataclass(frozen=True)
class Case:
    """What is computed, whoever computes it; a number is 0 where the case has none.

    Args:
        model: a name of `create_model`, or of a part such as "attention head".
        batch: images at a time, N.
        size: side of the square images, in pixels; of a head, of its maps.
        dtype: of our products: fp32, bf16, int8.
        layout: NCHW or channels_last, of our tensors.
        device: cpu or cuda.
        mode: inference; training, a whole step; forward, backward, optimizer or data, its parts; start.
        classes: K.
        tasks: T.
        processes: that compute together.
    """

    model: str
    batch: int = 0
    size: int = 0
    dtype: str = "fp32"
    layout: str = "NCHW"
    device: str = "cpu"
    mode: str = "inference"
    classes: int = 0
    tasks: int = 0
    processes: int = 0

    def at(self, along: str, value: int) -> "Case":
        """The same with another of its numbers."""
        changed: dict[str, Any] = {along: value}
        return replace(self, **changed)

    def __str__(self) -> str:
        letters = (("K", self.classes), ("T", self.tasks), ("batch", self.batch), ("processes", self.processes))
        parts = [self.model, *(f"{name} {value}" for name, value in letters if value)]
        if self.size:
            parts.append(f"{self.size}x{self.size}")
        parts += [self.mode, self.dtype, self.layout]
        return ", ".join(parts if self.device == "cpu" else [*parts, self.device])


@dataclass(frozen=True)
class Measured:
    """A way to compute a case, by its name, and the median and quartiles of what it took."""

    name: str
    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, name: str, values: list[float]) -> "Measured":
        """Of the values of all rounds."""
        if len(values) == 1:
            return cls(name, *values * 3)
        lower, _, upper = quantiles(values, n=4, method="inclusive")
        return cls(name, lower, median(values), upper)


@dataclass(frozen=True)
class Comparison:
    """A case computed by us and by a peer, measured turn by turn; less is better.

    Args:
        case: what both compute.
        quantity: seconds, bytes, launches, share, or exponent: of what the case's cost grows with.
        ours: ours.
        peer: the peer; None where there is none.
        target: the least ratio wanted.
        suite: the file that measured it, and its test.
    """

    case: Case
    quantity: str
    ours: Measured
    peer: Measured | None = None
    target: float | None = None
    suite: str = ""
    test: str = ""

    @classmethod
    def of(cls, case: Case, quantity: str, rounds: Mapping[str, list[float]]) -> "Comparison":
        """Of the values of all rounds by name: ours, then the peer's if there is one."""
        ours, *peers = (Measured.of(name, values) for name, values in rounds.items())
        return cls(case, quantity, ours, peers[0] if peers else None)

    @property
    def ratio(self) -> float | None:
        """The peer's median over ours: how many times as good as the peer."""
        if self.peer is None or self.quantity == "exponent" or not self.ours.median:
            return None
        return self.peer.median / self.ours.median

    @property
    def lost(self) -> bool:
        """Whether the peer's median is the better one."""
        return self.peer is not None and self.peer.median < self.ours.median

    @property
    def clear(self) -> bool:
        """Whether the quartiles of both are apart."""
        return self.peer is None or self.ours.lower > self.peer.upper or self.ours.upper < self.peer.lower

    @classmethod
    def from_json(cls, row: dict[str, Any], **where: str) -> "Comparison":
        """The comparison that `dataclasses.asdict` has turned into a dictionary."""
        peer = row["peer"]
        values = row | {
            "case": Case(**row["case"]),
            "ours": Measured(**row["ours"]),
            "peer": peer and Measured(**peer),
        }
        return cls(**values | where)


def amount(value: float, quantity: str) -> str:
    """A value with its unit, such as 12.3 ms."""
    if quantity == "seconds":
        factor, unit = (1, "s") if value >= 1 else (1e3, "ms") if value >= 1e-3 else (1e6, "us")
        return f"{value * factor:.3g} {unit}"
    if quantity == "bytes":
        return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"
    if quantity == "share":
        return f"{value:.2%}"
    return f"{value:.3g}" if quantity == "exponent" else f"{value:g} {quantity}"
