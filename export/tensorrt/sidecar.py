import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from abn_fast._checks import check_kinds, is_texts
from abn_fast._errors import AbnFastError, one_line
from abn_fast._files import write_atomically
from abn_fast.export.metadata import Metadata

FORMAT = 1

_KINDS: dict[str, Any] = {
    "flavour": str,
    "version": str,
    "targets": list,
    "engine_sha256": str,
    "onnx_sha256": str,
    "metadata": dict,
    "build": dict,
    "plugin": str | None,
}


@dataclass(frozen=True)
class Sidecar:
    """What stands beside an engine, as NAME.json, because an engine says next to nothing about itself."""

    flavour: str
    version: str
    """Of the flavour's module, which has to be the same to run the engine."""
    targets: tuple[str, ...]
    """Compute capabilities that it runs on, as sm_86."""
    engine_sha256: str
    onnx_sha256: str
    metadata: Metadata
    """Precision, input ranges, outputs, class names and normalisation."""
    build: dict[str, Any] = field(default_factory=dict)
    """Seconds, layers by kind, bytes of weights and of scratch memory, and the types and shapes that the log states."""
    plugin: str | None = None
    """What the engine needs besides its flavour: abn_fast::attention_gate, or nothing."""

    def write(self, engine: Path) -> None:
        """Put it beside an engine."""
        values = asdict(self) | {"format": FORMAT, "metadata": json.loads(self.metadata.to_json())}
        text = json.dumps(values, indent=1) + "\n"
        write_atomically(sidecar_path(engine), lambda temporary: _write(temporary, text))

    @classmethod
    def read(cls, engine: Path) -> "Sidecar":
        """The sidecar of an engine.

        Raises:
            AbnFastError: it is missing, damaged or of another version.
        """
        path = sidecar_path(engine)
        try:
            values = json.loads(path.read_text())
            version = values.pop("format")
            if version == FORMAT:
                check_kinds(values, _KINDS)
                if not is_texts(values["targets"]):
                    raise TypeError(f"targets={values['targets']!r}")
                quoted = (values["flavour"], values["version"], *values["targets"])
                if not all(each.isprintable() and len(each) < 100 for each in quoted):
                    raise ValueError(f"names of one short line are expected: {quoted}")
                values["metadata"] = Metadata.from_json(json.dumps(values["metadata"]))
                return cls(**values | {"targets": tuple(values["targets"])})
        except FileNotFoundError:
            raise AbnFastError(
                f"{engine}: {path.name}, which says what the engine is, does not stand beside it: copy both"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AbnFastError(f"{path} is damaged: {one_line(repr(error))}; export the engine again") from None
        raise AbnFastError(f"{path} has format {version!r:.100} instead of {FORMAT}: export the engine again")


def sidecar_path(engine: Path) -> Path:
    """Where the sidecar of an engine stands."""
    return engine.with_name(f"{engine.name}.json")


def onnx_path(engine: Path) -> Path:
    """Where the ONNX file stands that an engine was built from."""
    return engine.with_name(f"{engine.name}.onnx")


def log_path(engine: Path) -> Path:
    """Where the log of an engine's build stands."""
    return engine.with_name(f"{engine.name}.log")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
