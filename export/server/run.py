import signal
import socket
from collections.abc import Callable

import torch
import uvicorn
from fastapi import FastAPI

from abn_fast._errors import AbnFastError
from abn_fast.export.server.app import create_app
from abn_fast.export.server.predictor import Predictor
from abn_fast.export.server.settings import ServerSettings
from abn_fast.export.session import InferenceSession

GRACE = 60
"""Seconds that requests under way have to finish after SIGTERM."""
KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than a client under load pauses between two requests."""


def serve(
    session: InferenceSession,
    settings: ServerSettings,
    host: str,
    port: int,
    listening: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a session over HTTP until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        session: what to serve.
        settings: limits.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        listening: told the server's URL once it answers.

    Raises:
        AbnFastError: the network does not run at the batch sizes to be served, or the port cannot be had.
    """
    _try_batches(session, settings)
    serve_app(create_app(session, settings), host, port, listening)


def serve_app(app: FastAPI, host: str, port: int, listening: Callable[[str], None] = lambda url: None) -> None:
    """Serve a web application until SIGTERM or SIGINT; arguments and errors as of `serve`."""
    with _listener(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=KEEP_ALIVE,
            backlog=2048,
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has finished
            signal.signal(number, lambda number, frame: None)
        _Server(config, lambda: listening(url)).run([listener])


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise AbnFastError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from None
    return listener


def _try_batches(session: InferenceSession, settings: ServerSettings) -> None:
    """Run the smallest and the largest batch, so that what cannot work fails at once."""
    predictor = Predictor(session)
    for count in {1, settings.batch_for(session.metadata.batch)}:
        predictor.run(torch.stack([predictor.blank()] * count))
