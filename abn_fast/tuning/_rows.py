import json
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast.kernels import _tuning
from abn_fast.kernels._tuning import Request
from abn_fast.kernels._tuning_file import FORMAT, Row, read_tuned_rows


def measured(path: Path, again: bool) -> set[Any]:
    """The requests that a file has rows for; with `again` none, and a file that cannot be read is emptied."""
    if not again:
        return {_key(row) for row in read_tuned_rows(path)}
    try:
        read_tuned_rows(path)
    except AbnFastError:
        _write(path, [])
    return set()


def key(request: Request) -> Any:
    """What `measured` knows a request by."""
    return _key({**request._asdict(), "at_most": dict(request.sizes)})


def put(path: Path, row: Row) -> None:
    """Add a row to a file, or replace it; tighter bounds come first, for the first row that fits is taken."""
    rows = [each for each in read_tuned_rows(path) if _key(each) != _key(row)]
    _write(path, sorted([*rows, row], key=_order))
    _tuning.reload()


def _write(path: Path, rows: list[Row]) -> None:
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    text = f'{{\n  "format": {FORMAT},\n  "rows": [\n{lines}\n  ]\n}}\n'

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def _key(row: Row) -> Any:
    bounds = tuple(sorted(row.get("at_most", {}).items()))
    return *(row.get(name) for name in ("kernel", "architecture", "card", "dtype", "memory_format")), bounds


def _order(row: Row) -> Any:
    largest = 1
    for bound in row.get("at_most", {}).values():
        largest *= bound
    return row["kernel"], largest
