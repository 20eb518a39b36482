"""Batch and image sizes that a deployed file takes."""

import re
from dataclasses import dataclass

from abn_fast._errors import AbnFastError

Size = tuple[int, int]
"""(height, width), pixels."""


@dataclass(frozen=True)
class BatchRange:
    """Images at a time: the fewest, the number to be fastest at, and the most."""

    low: int = 1
    best: int = 8
    high: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.best <= self.high:
            raise AbnFastError(f"batch {self}: expected 1 <= lowest <= best <= highest, as in 1:8:64")

    @property
    def is_fixed(self) -> bool:
        """Whether just one batch size is taken."""
        return self.low == self.high

    @classmethod
    def parse(cls, text: str) -> "BatchRange":
        """Read "8", which fixes it, or "1:8:64".

        Raises:
            AbnFastError: anything else.
        """
        values = [_whole(part) for part in text.split(":")]
        if len(values) not in (1, 3) or None in values:
            raise AbnFastError(f"batch {text!r}: expected N or LOWEST:BEST:HIGHEST, as in 1:8:64")
        return cls(*(value or 0 for value in (values if len(values) == 3 else values * 3)))

    def __str__(self) -> str:
        return str(self.low) if self.is_fixed else f"{self.low}:{self.best}:{self.high}"


@dataclass(frozen=True)
class SizeRange:
    """Image sizes (height, width): the smallest, the one to be fastest at, and the largest."""

    low: Size
    best: Size
    high: Size

    def __post_init__(self) -> None:
        for name in ("low", "best", "high"):
            height, width = getattr(self, name)
            object.__setattr__(self, name, (int(height), int(width)))
        for low, best, high in zip(self.low, self.best, self.high, strict=True):
            if not 1 <= low <= best <= high:
                raise AbnFastError(f"size {self}: expected 1 <= smallest <= best <= largest, as in 128:224:512")

    @property
    def is_fixed(self) -> bool:
        """Whether just one image size is taken."""
        return self.low == self.high

    @classmethod
    def fixed(cls, size: Size) -> "SizeRange":
        """One size only."""
        return cls(size, size, size)

    @classmethod
    def around(cls, size: Size) -> "SizeRange":
        """From half to twice a size."""
        height, width = size
        return cls((-(-height // 2), -(-width // 2)), size, (2 * height, 2 * width))

    @classmethod
    def parse(cls, text: str) -> "SizeRange":
        """Read "224" or "224x160" (height x width), which fix it, or three of them: "128:224:512".

        Raises:
            AbnFastError: anything else.
        """
        sizes = [_size(part) for part in text.split(":")]
        if len(sizes) not in (1, 3) or None in sizes:
            raise AbnFastError(f"size {text!r}: expected SIDE, HEIGHTxWIDTH or three of them, as in 128:224:512")
        return cls(*(size or (0, 0) for size in (sizes if len(sizes) == 3 else sizes * 3)))

    def __str__(self) -> str:
        sizes = [self.low] if self.is_fixed else [self.low, self.best, self.high]
        return ":".join(size_text(size) for size in sizes)


def size_text(size: Size) -> str:
    """HEIGHTxWIDTH."""
    return f"{size[0]}x{size[1]}"


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _size(text: str) -> Size | None:
    sides = [_whole(side) for side in text.split("x")]
    height, width = (sides * 2)[:2]
    return None if len(sides) > 2 or height is None or width is None else (height, width)
