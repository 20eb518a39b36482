"""Damaged files, the same ones in every run, and what must come of reading them."""

import copy
import math
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from abn_fast import AbnFastError

SECONDS = 30
"""After which reading one file counts as hanging, on a busy machine."""
MEMORY = 1 << 30
"""Bytes that the process may grow by; Pillow alone takes up to 0.7 GB for the largest picture that it opens."""
LINE = 2000
"""Most characters of an error's line."""

JUNK: list[Any] = [
    None, True, False, 0, -1, 2, 0.5, 1 << 40, 10**30, -(10**30), 1e300, math.inf, -math.inf, math.nan,
    "", "x", "a\nb", "\x00", "é" * 2000, "1e9", "..", "/", "cifar_resnet20", "abn_cifar_resnet99999998",
    [], {}, [[]], [None], {"a": 1}, {"a\nb": {"c\nd": 1}}, [1, "a", None], ["x"] * 500, {"": ""},
]  # fmt: skip


def cases(few: int, many: int) -> pytest.MarkDecorator:
    """How many damaged files a test reads: some by default, more in the slow form."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def damaged_bytes(content: bytes, generator: random.Random) -> bytes:
    """A file cut, or with bytes changed, put in, left out, repeated, or numbers in it made huge."""
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 5])):
        place = generator.randrange(len(data) + 1)
        # half of all damage is near the start, where the headers are
        place = generator.choice([place, min(place, generator.randrange(200))])
        length = generator.choice([1, 2, 4, 8, 40, 1000])
        match generator.randrange(8):
            case 0:
                del data[place:]
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = generator.randbytes(length)
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place : place + 1] = bytes([generator.randrange(256)])
            case 5 if place < len(data):
                data[place] ^= 1 << generator.randrange(8)
            case 6:
                width = generator.choice([2, 4, 8])
                value = generator.choice([0, 1, (1 << 8 * width - 1) - 1, (1 << 8 * width) - 1, 1 << 33])
                order: Any = generator.choice(["little", "big"])
                data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, order)
            case _:
                data[place : place + length] = bytes(length)
    return bytes(data)


def damaged_text(text: str, tokens: list[str], generator: random.Random) -> str:
    """A text with words and lines replaced, put in, left out or moved."""
    for _ in range(generator.choice([1, 1, 2, 4])):
        start = generator.randrange(len(text) + 1)
        end = generator.choice([start, start + 1, start + 8, text.find("\n", start)])
        text = text[:start] + generator.choice([*tokens, "", ""]) + text[max(end, start) :]
    return text


def damaged_value(value: Any, generator: random.Random) -> Any:
    """Nested tables and lists with a few places replaced, left out, added or renamed."""
    value = copy.deepcopy(value)
    for _ in range(generator.choice([1, 1, 2, 3])):
        value = _damaged_once(value, generator)
    return value


def _damaged_once(value: Any, generator: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return generator.choice(JUNK)
    container, key = generator.choice(places)
    match generator.randrange(8):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[generator.choice(["x", "a\nb", "", "é" * 300])] = copy.deepcopy(generator.choice(JUNK))
        case 2 if isinstance(container, list):
            container.append(copy.deepcopy(generator.choice(JUNK)))
        case 3:
            container[key] = [container[key]]
        case 4 if isinstance(container[key], int | float):
            container[key] = container[key] * generator.choice([-1, 0, 2, 1000, 1e9]) + generator.choice([0, 1])
        case 5 if isinstance(container[key], str):
            container[key] = damaged_text(container[key], ["\n", "9" * 9, ":", "x", "-"], generator)
        case _:
            container[key] = copy.deepcopy(generator.choice(JUNK))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


class Fuzz:
    """Reads damaged files; counts those that load.

    Attributes:
        loaded: how many loaded.
        refused: how many were refused.
    """

    def __init__(self) -> None:
        self.loaded = self.refused = 0
        self._peak = _peak()

    def read(self, read: Callable[..., Any], *arguments: Any, case: object, name: Path | None = None) -> None:
        """Hold `read` to its promise: it returns, or raises an AbnFastError of one line that names the file."""
        try:
            with _in_time():
                read(*arguments)
        except AbnFastError as error:
            message = str(error)
            assert message, case
            assert len(message.splitlines()) == 1, (case, message)
            assert len(message) <= LINE, (case, message)
            assert name is None or str(name) in message, (case, message)
            self.refused += 1
        except Exception as error:
            raise AssertionError(f"{case!r:.600} raised {type(error).__name__}: {error!s:.300}") from error
        else:
            self.loaded += 1
        assert _peak() - self._peak < MEMORY, case


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
