import csv
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast.benchmark_report.case import Case, Comparison, amount

SCHEMA = 1


@dataclass(frozen=True)
class Suite:
    """What became of the tests of a file."""

    name: str
    seconds: float
    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Failure:
    """A test that did not hold, and the line that says why."""

    test: str
    line: str


@dataclass(frozen=True)
class Results:
    """Everything that a run of the bench found."""

    date: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    suites: list[Suite] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def lost(self) -> list[Comparison]:
        """Where a peer is better, the worst first; growth after all else."""
        lost = [each for each in self.comparisons if each.lost]
        return sorted(lost, key=lambda each: each.ratio if each.ratio is not None else 1.0)

    def of(self, suite: str) -> list[Comparison]:
        """The comparisons of a suite."""
        return [each for each in self.comparisons if each.suite == suite]


def write_json(results: Results, path: Path) -> None:
    """Write all of it."""
    text = json.dumps({"schema": SCHEMA, **asdict(results)}, indent=1)
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all."""

    def write(file: Path) -> None:
        file.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def read_json(path: Path) -> Results:
    """Read what `write_json` wrote.

    Raises:
        AbnFastError: no such file, none of the bench, or one of another version of its format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AbnFastError(f"{path} cannot be read: {error}") from None
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise AbnFastError(f"{path} has format {schema!r}; expected results.json of abn-fast bench, format {SCHEMA}")
    try:
        rows = [Comparison.from_json(row) for row in data.pop("comparisons")]
        suites, failures = ([kind(**row) for row in data.pop(name)] for name, kind in _LISTS.items())
        return Results(**data, suites=suites, failures=failures, comparisons=rows)
    except (KeyError, TypeError) as error:
        raise AbnFastError(f"{path} is not as abn-fast bench writes it: {error}") from None


def continued(begun: Results, now: Results, folder: Path) -> Results:
    """A run that was stopped, to go on with.

    Raises:
        AbnFastError: it ran another command, on another machine or with other versions than now.
    """
    for what in ("command", "machine", "versions"):
        before, after = getattr(begun, what), getattr(now, what)
        if before != after:
            raise AbnFastError(
                f"{folder / 'results.json'} has another {what}, {before}; now {after}: "
                "go on as it was begun, or leave out --resume to measure anew"
            )
    return begun


def write_csv(results: Results, path: Path) -> None:
    """Write one row a comparison, in seconds, bytes or as they are."""
    names = ["suite", "test", *(each.name for each in fields(Case)), "quantity"]
    names += [f"{who} {what}" for who in ("ours", "peer") for what in ("name", "lower", "median", "upper")]

    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*names, "ratio", "target"])
            writer.writeheader()
            writer.writerows(map(_flat, results.comparisons))

    write_atomically(path, write)


def write_document(results: Results, path: Path) -> None:
    """Write what docs/performance.md shows: of each suite its versions and rows, in units to read."""
    about = {"date": results.date, "cpu": f"{results.machine['cpu']} ({results.machine['cores']} cores)"}
    shown = {
        suite.name: {
            "versions": results.versions | about,
            "rows": [_readable(each) for each in results.of(suite.name)],
        }
        for suite in results.suites
        if results.of(suite.name)
    }
    text = json.dumps(shown, indent=1) + "\n"
    write_text(path, text)


_LISTS: dict[str, Any] = {"suites": Suite, "failures": Failure}


def _flat(each: Comparison) -> dict[str, Any]:
    row = {"suite": each.suite, "test": each.test, **asdict(each.case), "quantity": each.quantity}
    for who, measured in (("ours", each.ours), ("peer", each.peer)):
        row |= {f"{who} {name}": value for name, value in (asdict(measured) if measured else {}).items()}
    return row | {"ratio": each.ratio, "target": each.target}


def _readable(each: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": str(each.case),
        "ours": f"{each.ours.name}: {amount(each.ours.median, each.quantity)}",
    }
    if each.peer is not None:
        row["peer"] = f"{each.peer.name}: {amount(each.peer.median, each.quantity)}"
    return row if each.ratio is None else row | {"peer / ours": round(each.ratio, 2)}
