import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class LogLine(NamedTuple):
    """One message of a builder or runtime."""

    seconds: float
    """Since the log began."""
    severity: str
    text: str


class Totals(NamedTuple):
    """What a builder's verbose log says about an engine; None for what it does not say."""

    weights: int | None
    """Bytes."""
    activations: int | None
    """Bytes of scratch memory at the largest shapes."""
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    """Type and shape of what goes into and comes out of the engine's layers; -1 for a size that varies."""


def recording_logger(module: ModuleType, lines: list[LogLine]) -> Any:
    """A logger of that module which appends all messages to `lines`."""
    start = time.perf_counter()

    class Recorder(module.ILogger):  # type: ignore[name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            lines.append(LogLine(time.perf_counter() - start, severity.name, text))

    return Recorder()


def errors(lines: Sequence[LogLine]) -> list[str]:
    """The messages that are errors; a missing driver, which follows each of them where there is no card, is none."""
    found = [line.text for line in lines if line.severity.endswith("ERROR")]
    return [text for text in found if "catchCudaError" not in text]


def totals(lines: Sequence[LogLine]) -> Totals:
    """What the log of a finished build says about the engine."""
    text = "\n".join(line.text for line in lines)
    layers = text.partition("Engine Layer Information:")[2]
    tensors = {
        match["name"]: (match["kind"], tuple(int(side) for side in match["shape"].split(",") if side))
        for match in re.finditer(r"(?P<name>[^\s,(]+) \((?P<kind>\w+)\[(?P<shape>[-\d,]*)\]\)", layers)
    }
    return Totals(_bytes(text, "Total Weights Memory"), _bytes(text, "Total Activation Memory"), tensors)


def write_log(lines: Sequence[LogLine], path: Path) -> None:
    """Write all messages with the second at which each came."""
    path.write_text("".join(f"{line.seconds:10.4f} {line.severity:7} {line.text}\n" for line in lines))


def _bytes(text: str, name: str) -> int | None:
    found = re.findall(rf"{name}: (\d+) bytes", text)
    return int(found[-1]) if found else None
