from collections.abc import Callable, Sequence
from pathlib import Path

from abn_fast._errors import AbnFastError

Report = Callable[[str], None]
"""Takes one line about something that is wrong with the files of a data set."""


def refuse(problem: str) -> None:
    """Raise the problem as an AbnFastError."""
    raise AbnFastError(problem)


def read_lines(path: Path) -> list[str]:
    """The lines of a list."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AbnFastError(f"list '{path}' cannot be read: {' '.join(str(error).split())}") from None


def few(names: Sequence[str], most: int = 10) -> str:
    """The first names as a list, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
