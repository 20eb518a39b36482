import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError, one_line
from abn_fast._files import write_atomically


@dataclass(frozen=True)
class RunFolder:
    """The files of one training run."""

    path: Path

    @property
    def settings(self) -> Path:
        """Model, data and training settings: all that `--resume` needs beside the checkpoint."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """Model and training state after the last finished or interrupted epoch."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model of the epoch that was best on the validation set."""
        return self.path / "best.safetensors"

    @property
    def average(self) -> Path:
        """The averaged model after the last finished epoch."""
        return self.path / "average.safetensors"

    def kept(self, epochs: int) -> Path:
        """The model after so many epochs (`TrainingConfig.keep_every`)."""
        return self.path / f"epoch-{epochs}.safetensors"

    @property
    def failed_batch(self) -> Path:
        """The indices of a batch whose loss or gradient was not finite."""
        return self.path / "failed_batch.json"

    @property
    def metrics(self) -> Path:
        """A row an epoch."""
        return self.path / "metrics.csv"

    @property
    def curve(self) -> Path:
        """Learning curve."""
        return self.path / "curve.png"

    @property
    def model_card(self) -> Path:
        """What the model is, for people."""
        return self.path / "README.md"

    @property
    def summary(self) -> Path:
        """Final figures."""
        return self.path / "summary.json"

    def create(self, settings: dict[str, Any]) -> None:
        """Start a run.

        Raises:
            AbnFastError: the folder holds a run already, or cannot be written.
        """
        if self.settings.exists() or self.checkpoint.exists():
            raise AbnFastError(
                f"{self.path} holds a run already: continue it with --resume {self.path}, or choose another --out"
            )
        write_text(self.settings, json.dumps(settings, indent=2) + "\n")

    def remove_unfinished(self) -> None:
        """Remove what a process left behind that was killed while it wrote a file."""
        for path in self.path.glob(".*.tmp*"):
            path.unlink(missing_ok=True)

    def read_settings(self) -> dict[str, Any]:
        """What `create` was given.

        Raises:
            AbnFastError: there is no run, or its settings are damaged.
        """
        if not self.settings.is_file():
            raise AbnFastError(f"{self.path} holds no run: {self.settings.name} is missing")
        try:
            settings = json.loads(self.settings.read_text())
        except (ValueError, RecursionError) as error:
            raise AbnFastError(f"{self.settings} is damaged: {one_line(error)}") from None
        if not isinstance(settings, dict):
            raise AbnFastError(f"{self.settings} is damaged: expected a table of settings")
        return settings

    def write_history(self, history: Sequence[dict[str, float]]) -> None:
        """Write the metrics of all epochs so far."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.metrics, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        AbnFastError: it cannot be written.
    """
    write_file(path, lambda temporary: _write(temporary, text))


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file that appears whole or not at all.

    Raises:
        AbnFastError: it cannot be written.
    """
    try:
        write_atomically(path, write)
    except OSError as error:
        raise AbnFastError(f"{path} cannot be written: {error.strerror or error}") from None


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one table of paths such as "optimizer.lr"."""
    if not isinstance(values, dict):
        return {prefix.rstrip("."): values}
    return {
        key: value for name, each in values.items() for key, value in flat_settings(each, f"{prefix}{name}.").items()
    }
