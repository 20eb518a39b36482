import signal
from types import FrameType, TracebackType


class Interruption:
    """Turns the first Ctrl-C (or SIGTERM) into a request to stop after the step; the second one acts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, signal.Handlers | object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not the main thread: nobody can press Ctrl-C here
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
