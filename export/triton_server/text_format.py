from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

Value = Union[str, int, "Enum", Mapping[str, "Value"], Sequence["Value"]]  # names itself


class Enum(NamedTuple):
    """A value that protobuf writes without quotes."""

    name: str


def text_format(message: Mapping[str, Value], indent: str = "") -> str:
    """Protobuf's text format of a message: mappings are messages, sequences repeated fields."""
    lines = []
    for name, value in message.items():
        repeated = value if isinstance(value, list | tuple) and not isinstance(value, Enum) else [value]
        for item in repeated:
            if isinstance(item, Mapping):
                lines += [f"{indent}{name} {{", text_format(item, indent + "  "), f"{indent}}}"]
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}")
    return "\n".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """UTF-8 as it is; quotes, backslashes and control characters escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " else f"\\{ord(c):03o}" for c in escaped) + '"'
