from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from abn_fast._errors import AbnFastError

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 3e-1, "fp8": 3e-1}
"""Largest difference of an output, as a share of its largest value, by precision."""
AGREEMENTS = {"fp32": 1.0, "fp16": 0.99, "bf16": 0.99, "int8": 0.98, "fp8": 0.98}
"""Smallest share of images whose top class is the network's own, by precision."""

TIES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 2e-2, "fp8": 2e-2}
"""Two classes whose scores differ by less than twice this share of the largest score count as the same."""
DRIFTS = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 3e-2, "int8": 3e-2, "fp8": 3e-2}
"""Largest mean difference of the attention map, absolute, by precision."""
CALIBRATED = ("int8", "fp8")
"""Precisions judged on photographs: noise is none of the images that they were calibrated for, and is reported only."""


class Comparison(NamedTuple):
    """One output on one batch of images."""

    images: str
    """"photographs" or "noise"."""
    batch: int
    size: str
    output: str
    difference: float
    """Largest absolute difference."""
    share: float
    """The same, as a share of the output's largest value over all images of that kind and size."""


class Check(NamedTuple):
    """Something that a proof looked at besides the outputs."""

    name: str
    found: str
    passed: bool


class ProofFailedError(AbnFastError):
    """A file that differs from its network; `proof` tells where."""

    def __init__(self, message: str, proof: "Proof") -> None:
        super().__init__(message)
        self.proof = proof


@dataclass(frozen=True)
class Proof:
    """How a deployed file compares with the network that it came from."""

    file: str
    runtime: str
    provider: str
    """What really computed, as the runtime itself says."""
    precision: str
    comparisons: tuple[Comparison, ...]
    agreement: dict[str, float]
    """Share of images with the network's top class, by kind of images; near-ties (`TIES`) count."""
    map_drift: dict[str, float] = field(default_factory=dict)
    """Mean absolute difference of the attention map, by kind of images."""
    summary: dict[str, Any] = field(default_factory=dict)
    """Nodes, convolutions, bytes and checksum of the file."""
    notes: tuple[str, ...] = ()
    """What could not be checked, in words."""
    checks: tuple[Check, ...] = ()
    """Of a file that is more than its outputs."""
    hint: str = ""
    """What may explain a failure."""

    @property
    def tolerance(self) -> float:
        """Of the precision; see `TOLERANCES`."""
        return TOLERANCES[self.precision]

    @property
    def failures(self) -> list[str]:
        """What is wrong, in words; empty if the file may be used."""
        worst: dict[str, Comparison] = {}
        kinds = self._judged
        for row in self.comparisons:
            if (
                row.images in kinds
                and not row.share <= self.tolerance
                and not worst.get(row.output, row).share > row.share
            ):
                worst[row.output] = row
        wrong = [
            f"{row.output} differ by {row.share:.1e} of their range on {row.images} ({row.batch} x {row.size}), "
            f"tolerance {self.tolerance:.0e}"
            for row in worst.values()
        ]
        least = AGREEMENTS[self.precision]
        wrong += [
            f"top class agrees on {share:.1%} of {images}, expected {least:.0%}"
            for images, share in self.agreement.items()
            if images in kinds and not share >= least
        ]
        most = DRIFTS[self.precision]
        wrong += [
            f"the map drifts by {drift:.1e} on {images}, at most {most:.0e} expected"
            for images, drift in self.map_drift.items()
            if images in kinds and not drift <= most
        ]
        return wrong + [f"{check.name}: {check.found}" for check in self.checks if not check.passed]

    @property
    def _judged(self) -> set[str]:
        kinds = {row.images for row in self.comparisons}
        return kinds - {"noise"} if self.precision in CALIBRATED and "photographs" in kinds else kinds

    @property
    def passed(self) -> bool:
        """Whether the file may be used."""
        return not self.failures

    def check(self) -> "Proof":
        """The proof itself.

        Raises:
            ProofFailedError: it failed.
        """
        if self.failures:
            reasons = "; ".join([*self.failures, self.hint] if self.hint else self.failures)
            raise ProofFailedError(f"{self.file} is not the network it came from: {reasons}", self)
        return self

    def largest(self) -> dict[str, float]:
        """Of each output the largest difference, as a share of its largest value."""
        shares: dict[str, float] = {}
        for row in self.comparisons:
            shares[row.output] = max(shares.get(row.output, 0.0), row.share)
        return shares

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self) | {"passed": self.passed, "failures": self.failures, "tolerance": self.tolerance}
        for name in ("comparisons", "checks"):
            values[name] = [row._asdict() for row in getattr(self, name)]
        return values

    def table(self) -> str:
        """All of it as text, a line a batch of images."""
        outputs = list(dict.fromkeys(row.output for row in self.comparisons))
        width = max([17, *(len(name) + 2 for name in outputs)])
        lines = [
            f"{self.file}: {self.precision} by {self.runtime} ({self.provider})",
            f"  largest difference and, in brackets, its share of the largest value; tolerance {self.tolerance:.0e}",
            f"  {'images':12}{'batch':>6}{'size':>11}" + "".join(f"{name:>{width}}" for name in outputs),
        ]
        cells: dict[tuple[str, int, str], dict[str, str]] = {}
        for row in self.comparisons:
            text = f"{row.difference:.1e} ({row.share:.0e})"
            cells.setdefault((row.images, row.batch, row.size), {})[row.output] = text
        for (images, batch, size), by_output in cells.items():
            values = "".join(f"{by_output.get(name, '-'):>{width}}" for name in outputs)
            lines.append(f"  {images:12}{batch:>6}{size:>11}{values}")
        if self.agreement:
            agreement = ", ".join(f"{share:.1%} of {images}" for images, share in self.agreement.items())
            lines.append(f"  top class agrees on {agreement}")
        if self.map_drift:
            drift = ", ".join(f"{value:.1e} on {images}" for images, value in self.map_drift.items())
            lines.append(f"  the map differs in the mean by {drift}")
        if self.summary:
            lines.append("  " + ", ".join(f"{name} {value}" for name, value in self.summary.items()))
        lines += [f"  {check.name}: {check.found}" + ("" if check.passed else " (WRONG)") for check in self.checks]
        lines += [f"  note: {note}" for note in self.notes]
        if self.hint and not self.passed:
            lines.append(f"  note: {self.hint}")
        return "\n".join([*lines, f"  {'passed' if self.passed else 'FAILED: ' + '; '.join(self.failures)}"])
