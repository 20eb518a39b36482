from dataclasses import dataclass
from types import ModuleType

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.tensorrt.cuda import local_targets


@dataclass(frozen=True)
class Flavour:
    """One of NVIDIA's two makers of engines, whose Python interfaces are nearly the same."""

    name: str
    """Of the format, the runtime and the pip extra."""
    title: str
    module: str
    suffix: str
    targets: tuple[str, ...] = ()
    """Compute capabilities that it builds for without a card; none if it builds for the card at hand alone."""
    header: bool = False
    """Whether `EngineHeader` describes its files."""
    captures_graphs: bool = False
    """Whether its runtime captures CUDA graphs itself."""
    python_plugins: bool = False
    """Whether a plugin is an object of Python wherever its engine runs; elsewhere all of it is in the engine."""

    def load(self, purpose: str) -> ModuleType:
        """Its module.

        Raises:
            AbnFastError: not installed.
        """
        return require(self.module, extra=self.name, purpose=purpose)

    def checked_targets(self, targets: tuple[str, ...] | None, precision: str) -> tuple[str, ...]:
        """The compute capabilities to build for, as sm_86, in order; None for all that have the precision.

        Raises:
            AbnFastError: one that this flavour does not build for, or without the precision.
        """
        least = LEAST_TARGET.get(precision, 0)
        if not self.targets:
            if targets is not None:
                raise AbnFastError(
                    f"targets={','.join(targets)!r}: {self.title} builds for the card it runs on; leave them out"
                )
            for card in local_targets()[:1]:
                if number(card) < least:
                    raise AbnFastError(f"{card}, the card here, has no {precision}: take --precision fp16")
            return ()
        if targets is None:
            return tuple(each for each in self.targets if number(each) >= max(least, DEFAULT_LEAST))
        wanted = [f"sm_{each.strip().lower().removeprefix('sm').lstrip('_')}" for each in targets]
        for each in wanted:
            if each not in self.targets:
                classic = " (others take --format tensorrt on a machine with such a card)"
                raise AbnFastError(f"target {each!r}; {self.title} builds for {', '.join(self.targets)}{classic}")
            if number(each) < least:
                raise AbnFastError(f"{each} has no {precision}: take --precision fp16, or leave {each} out")
        return tuple(sorted(set(wanted), key=number))


LEAST_TARGET = {"bf16": 80, "fp8": 89}
"""The first compute capability that has a precision."""
DEFAULT_LEAST = 80
"""From which on engines are built if nobody names targets."""

CLASSIC = Flavour("tensorrt", "TensorRT", "tensorrt", ".plan")
RTX = Flavour(
    "tensorrt-rtx",
    "TensorRT-RTX",
    "tensorrt_rtx",
    ".engine",
    targets=("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121"),
    header=True,
    captures_graphs=True,
    python_plugins=True,
)
FLAVOURS = {flavour.name: flavour for flavour in (CLASSIC, RTX)}


def number(target: str) -> int:
    """86 of sm_86."""
    return int(target.removeprefix("sm_"))
