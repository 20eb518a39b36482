from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from abn_fast._errors import AbnFastError

Value = TypeVar("Value")
MOST_BLOCKS = 500
"""Of a stage, ResNet-1202 having 200: a damaged file may ask for more than any memory holds."""


def checked_depth(family: str, depth: int, step: int, offset: int) -> int:
    """The n of a network whose depth is step * n + offset, n >= 1."""
    n, rest = divmod(depth - offset, step)
    if rest or n < 1:
        low = max(1, n) * step + offset
        raise AbnFastError(f"{family} has no depth {depth}; it is {step}n + {offset}: take {low} or {low + step}")
    if n > MOST_BLOCKS:
        raise AbnFastError(f"{family} has no depth {depth}; the largest is {step * MOST_BLOCKS + offset}")
    return n


def checked_choice(name: str, value: Value, choices: Iterable[Value]) -> Value:
    """The value itself, if it is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise AbnFastError(f"{name}={value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def checked_fraction(name: str, value: float) -> float:
    """The value itself, if it is at least 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise AbnFastError(f"{name}={value!r}; expected a number from 0 up to, but not including, 1")
    return value


def checked_whole(name: str, value: int) -> int:
    """The value itself, if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AbnFastError(f"{name}={value!r}; expected a whole number of at least 1")
    return value


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Refuse what JSON makes of a damaged file; a bool is no number.

    Raises:
        KeyError: a value has no kind.
        TypeError: a value is not of its kind.
    """
    for name, value in values.items():
        if not isinstance(value, kinds[name]) or (isinstance(value, bool) and kinds[name] is not bool):
            raise TypeError(f"{name}={value!r}")


def is_texts(value: Any) -> bool:
    """Whether a value is a list or tuple of texts."""
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
