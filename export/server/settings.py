from dataclasses import dataclass, fields

from abn_fast._errors import AbnFastError
from abn_fast.export.ranges import BatchRange


@dataclass(frozen=True)
class ServerSettings:
    """What a server takes, and how it gathers images into batches.

    Raises:
        AbnFastError: a value is out of its range.
    """

    max_batch: int | None = None
    """Images at a time; None for the number that the file was made to be fastest at."""
    max_wait: float = 2.0
    """Milliseconds that an image waits for others to share its batch."""
    max_queue: int = 256
    """Requests in the server at once; further ones are answered 503."""
    max_bytes: int = 10 * 1024 * 1024
    """Of a request's body."""
    max_pixels: int = 50_000_000
    """Of an image, as its header states them."""
    upload_seconds: float = 30.0
    """That a client may take to send a request's body."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            low = 0 if field.name == "max_wait" else 1
            if not low <= value < float("inf"):
                raise AbnFastError(f"{field.name}={value!r}; expected a finite number of at least {low}")

    def batch_for(self, batch: BatchRange) -> int:
        """Images at a time for a file that takes `batch`."""
        return min(self.max_batch or batch.best, batch.high)
