"""Files of tuning rows: those shipped with each op, and the one that `abn-fast kernels tune` writes."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError

FORMAT = 1
ENVIRONMENT = "ABN_FAST_TUNING"
FIX = "write it anew with abn-fast kernels tune --again, or remove it"

Row = dict[str, Any]
Candidates = dict[str, list[int]]

_TEXTS = ("kernel", "architecture", "card", "dtype", "memory_format")
_BOUNDS = ("at_most", "at_least")
_TIMES = ("microseconds", "default_microseconds")


def tuned_path() -> Path:
    """Where the user's rows are: $ABN_FAST_TUNING, or abn_fast/tuning.json in the user's cache folder."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "abn_fast" / "tuning.json"


def read_tuned_rows(path: Path | None = None) -> list[Row]:
    """The user's rows; none where there is no file, unless the environment names one.

    Raises:
        AbnFastError: the file does not hold rows for the kernels of this version.
    """
    asked, path = path, path or tuned_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if asked is None and os.environ.get(ENVIRONMENT):
            raise AbnFastError(
                f"{ENVIRONMENT}={path}: no such file; write it with abn-fast kernels tune, or unset {ENVIRONMENT}"
            ) from None
        return []
    except OSError as error:
        raise AbnFastError(f"{path}: cannot be read ({error.strerror}); {FIX}") from None
    except (ValueError, RecursionError) as error:  # also what is not text
        raise AbnFastError(f"{path}: not JSON ({error}); {FIX}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise AbnFastError(f"{path}: format {_short(found)}; this version reads format {FORMAT}: {FIX}")
    if content.keys() != {"format", "rows"} or not isinstance(content["rows"], list):
        raise AbnFastError(f"{path}: has {_short(sorted(content))}; expected format and a list of rows: {FIX}")
    for number, row in enumerate(content["rows"], 1):
        if wrong := wrong_row(row):
            raise AbnFastError(f"{path}: row {number}: {wrong}; {FIX}")
    rows: list[Row] = content["rows"]
    return rows


def ops() -> list[str]:
    """The ops whose launches are configured."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/tuning.json"))


def shipped_rows(op: str) -> list[Row]:
    """The rows of an op's tuning.json."""
    rows: list[Row] = _shipped(op)["rows"]
    return rows


def candidates(op: str) -> dict[str, Candidates]:
    """The values to try of each kernel's configuration, by kernel."""
    named: dict[str, Candidates] = _shipped(op).get("candidates", {})
    return named


def wrong_row(row: Any) -> str | None:
    """What is wrong with a row, or None."""
    if not isinstance(row, dict) or not {"kernel", "configuration"} <= row.keys():
        return f"{_short(row)}; expected an object with kernel and configuration"
    if unknown := row.keys() - {*_TEXTS, *_BOUNDS, *_TIMES, "configuration"}:
        return f"unknown key {_short(sorted(unknown)[0])}"
    for name in (name for name in _TEXTS if name in row):
        if not isinstance(row[name], str):
            return f"{name} is {_short(row[name])}; expected text"
    for name in (name for name in _BOUNDS if name in row):
        if not isinstance(row[name], dict) or not all(map(_is_whole, row[name].values())):
            return f"{name} is {_short(row[name])}; expected a whole number for each size"
    for name in (name for name in _TIMES if name in row):
        if isinstance(row[name], bool) or not isinstance(row[name], int | float):
            return f"{name} is {_short(row[name])}; expected a number"
    if not _shipped_configurations(row["kernel"]):
        return f"unknown kernel {_short(row['kernel'])}"
    return None if row["configuration"] is None else _wrong_configuration(row["configuration"], row["kernel"])


def _wrong_configuration(configuration: Any, kernel: str) -> str | None:
    shipped = _shipped_configurations(kernel)
    if not isinstance(configuration, dict) or not any(configuration.keys() == each.keys() for each in shipped):
        return f"configuration is {_short(configuration)}; expected {', '.join(shipped[-1])}"
    tried = candidates(kernel.partition(".")[0]).get(kernel, {})
    for name, value in configuration.items():
        known = sorted({*(each[name] for each in shipped if name in each), *tried.get(name, [])})
        if not _is_whole(value) or value not in known:
            return f"{name} is {_short(value)}; expected one of {', '.join(map(str, known))}"
    return None


@cache
def _shipped_configurations(kernel: str) -> list[dict[str, int]]:
    """Those of a kernel, of which this version knows the names and values; empty if it has no such kernel."""
    op = kernel.partition(".")[0]
    rows = shipped_rows(op) if op in ops() else []
    return [row["configuration"] for row in rows if row["kernel"] == kernel]


@cache
def _shipped(op: str) -> dict[str, Any]:
    file = Path(__file__).parent / op / "tuning.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
