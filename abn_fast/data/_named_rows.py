from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from abn_fast._errors import AbnFastError
from abn_fast.data._problems import Report, read_lines


class NamedRows:
    """A text file of rows NAME NUMBER..., as CelebA's.

    Args:
        path: of the file.
        report: takes each row that is malformed, which is left out.
        columns: their names; by default the file begins with a line of the number of rows and a line of these.
        values: the only ones allowed, or None for any whole number.

    Raises:
        AbnFastError: the head is malformed, or there is no row.
    """

    def __init__(
        self, path: Path, report: Report, columns: Sequence[str] | None = None, values: set[str] | None = None
    ) -> None:
        lines = read_lines(path)
        count, head = None, 0
        if columns is None:
            count, columns, head = *_head(path, lines), 2
        self.path, self.columns = path, list(columns)
        self.index: dict[str, int] = {}
        self._line: list[int] = []
        rows: list[str] = []
        for number, line in enumerate(lines[head:], head + 1):
            name, *row = line.split() or [""]
            if not name:
                continue
            problem = self._problem(name, row, values)
            if problem:
                report(f"'{path}', line {number}: {name} {problem}")
                continue
            self.index[name] = len(rows)
            self._line.append(number)
            rows.append(" ".join(row))
        if count not in (None, len(rows)):
            report(f"'{path}' announces {count} images and has {len(rows)} rows: it is cut off or damaged")
        if not rows:
            raise AbnFastError(f"'{path}' has no rows")
        self._numbers = np.fromstring(" ".join(rows), dtype=np.int64, sep=" ").reshape(len(rows), -1)

    def rows(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of these names, [N, columns]."""
        chosen: npt.NDArray[np.int64] = self._numbers[[self.index[name] for name in names]]
        return chosen

    def place(self, name: str) -> str:
        """File and line of a row."""
        return f"'{self.path}', line {self._line[self.index[name]]}"

    def _problem(self, name: str, row: list[str], values: set[str] | None) -> str:
        if len(row) != len(self.columns):
            return f"has {len(row)} values, expected {len(self.columns)}"
        if values is None:
            wrong = [value for value in row if not (value.removeprefix("-").isdigit() and value.isascii())]
        else:
            wrong = [] if values.issuperset(row) else [value for value in row if value not in values]
        if wrong:
            expected = "a whole number" if values is None else " or ".join(sorted(values))
            return f"has the value {wrong[0]!r}, expected {expected}"
        return f"stands in line {self._line[self.index[name]]} too" if name in self.index else ""


def _head(path: Path, lines: list[str]) -> tuple[int, list[str]]:
    """(number of rows, names of the columns)."""
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise AbnFastError(f"'{path}': expected the number of images, the names of the columns, and the rows")
    names = lines[1].split()
    return int(lines[0]), names[1:] if names[:1] == ["image_id"] else names
