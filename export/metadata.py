"""What a deployed file says about itself."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from abn_fast._checks import check_kinds, is_texts
from abn_fast._errors import AbnFastError, one_line
from abn_fast.data import Preprocessing
from abn_fast.export.ranges import BatchRange, SizeRange

FORMAT = 1
KEY = "abn_fast"
"""Under which a file's metadata hold all of it, as JSON."""

_KINDS: dict[str, Any] = {
    "outputs": list,
    "precision": str,
    "batch": str,
    "size": str,
    "channels": int,
    "num_classes": int,
    "model": str,
    "arguments": dict,
    "classes": list,
    "preprocessing": dict,
    "gate": str,
    "versions": dict,
}
"""Of what JSON holds; what is None is left out of it."""


@dataclass(frozen=True)
class Metadata:
    """The network in a file, its inputs and its outputs."""

    outputs: tuple[str, ...]
    precision: str
    batch: BatchRange
    size: SizeRange
    channels: int
    num_classes: int
    model: str | None = None
    """Name for `create_model`; None of a network that was made from a module."""
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    gate: str = "standard"
    """"standard" operators, or a "function"."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the packages that wrote the file, and the opset."""

    def to_json(self) -> str:
        """All of it as one line of JSON."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        values |= {"format": FORMAT, "batch": str(self.batch), "size": str(self.size)}
        if self.preprocessing is not None:
            values["preprocessing"] = self.preprocessing.to_dict()
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> "Metadata":
        """The inverse of `to_json`.

        Raises:
            AbnFastError: no text, or one of another version.
        """
        if text is None:
            raise AbnFastError(
                "no file of abn_fast's: its metadata lack the key 'abn_fast'; write it with abn-fast export"
            )
        try:
            values = json.loads(text)
            version = values.pop("format")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AbnFastError(f"its metadata are damaged: {one_line(repr(error))}") from None
        if version != FORMAT:
            raise AbnFastError(f"its metadata have format {version!r:.100} instead of {FORMAT}: export it again")
        try:
            check_kinds(values, _KINDS)
            if not is_texts(values["outputs"]) or not is_texts(values.get("classes", [])):
                raise TypeError("outputs and classes are not lists of names")
            preprocessing = values.get("preprocessing")
            values |= {
                "outputs": tuple(values["outputs"]),
                "batch": BatchRange.parse(values["batch"]),
                "size": SizeRange.parse(values["size"]),
                "classes": tuple(values["classes"]) if "classes" in values else None,
                "preprocessing": None if preprocessing is None else Preprocessing.from_dict(preprocessing),
            }
            return cls(**values)
        except (AbnFastError, KeyError, TypeError) as error:
            raise AbnFastError(f"its metadata are damaged: {one_line(repr(error))}") from None

    def with_outputs(self, outputs: Sequence[str], file: str) -> "Metadata":
        """The same with some of its outputs.

        Raises:
            AbnFastError: the file has no such output.
        """
        if isinstance(outputs, str) or not outputs or not set(outputs) <= set(self.outputs):
            raise AbnFastError(f"outputs={outputs!r}; {file} has {', '.join(self.outputs)}")
        return replace(self, outputs=tuple(outputs))
