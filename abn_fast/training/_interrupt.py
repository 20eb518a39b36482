import os
import signal
import socket
import threading
from multiprocessing.util import register_after_fork
from types import FrameType, TracebackType

PATIENCE = 10.0
"""Seconds in which a process must notice that it was asked to stop."""


class Interruption:
    """Turns the first Ctrl-C (or SIGTERM) into a request to stop after the step; the second one acts at once.

    A process that does not come to notice the request ends at once: under torchrun one that waits for another that is
    gone, which Python's handlers cannot interrupt, would hold up the restart of all.
    """

    def __init__(self) -> None:
        self.requested = False
        self._noticed = threading.Event()
        self._previous: dict[int, signal.Handlers | object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not the main thread: nobody can press Ctrl-C here
                return self
        self._signals, self._arrived = socket.socketpair()
        self._arrived.setblocking(False)
        self._previous_descriptor = signal.set_wakeup_fd(self._arrived.fileno(), warn_on_full_buffer=False)
        register_after_fork(self, lambda _: signal.set_wakeup_fd(-1))  # signals of a loader's workers are not ours
        threading.Thread(target=self._end_if_stuck, args=(self._signals,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        signal.set_wakeup_fd(self._previous_descriptor)
        self._noticed.set()
        self._arrived.close()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._noticed.set()
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def _end_if_stuck(self, signals: socket.socket) -> None:
        with signals:
            while number := signals.recv(1):
                if number[0] in self._previous and not self._noticed.wait(PATIENCE):
                    os._exit(128 + number[0])
