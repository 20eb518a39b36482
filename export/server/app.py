import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abn_fast._version import __version__
from abn_fast.export.server.answer import MapFormat
from abn_fast.export.server.metrics import Metrics
from abn_fast.export.server.predictor import Predictor
from abn_fast.export.server.refusal import Refusal
from abn_fast.export.server.service import Service
from abn_fast.export.server.settings import ServerSettings
from abn_fast.export.session import InferenceSession

PATHS = ("/predict", "/health", "/metrics")
CLIENT_GONE = 499
"""Status in the metrics of a request whose client did not wait; nobody is sent it."""
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _FILE},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}},
    },
}


def create_app(session: InferenceSession, settings: ServerSettings | None = None) -> FastAPI:
    """The web application of a session: `POST /predict`, `GET /health`, `GET /metrics`.

    Errors are answered as {"error": "one sentence"}.

    Raises:
        AbnFastError: the session's file lacks what a server needs.
    """
    predictor, metrics = Predictor(session), Metrics(session)
    service: Service | None = None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal service
        service = Service(predictor, settings or ServerSettings(), metrics)
        yield
        await service.close()

    def running() -> Service:
        if service is None:
            raise Refusal(503, "the server is starting")
        return service

    app = FastAPI(title="abn_fast", version=__version__, lifespan=lifespan)
    app.add_middleware(_Counted, answered=metrics.answered)

    @app.post("/predict", openapi_extra={"requestBody": _BODY})
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, description="Classes to name, the most probable first.")] = 5,
        map_format: Annotated[
            MapFormat | None,
            Query(alias="map", description="How to write the attention map; array where there is one."),
        ] = None,
    ) -> JSONResponse:
        """Classes, probabilities and the attention map of an image: the raw body, or the field `image` of a form."""
        return JSONResponse(await running().predict(request, top, map_format))

    @app.get("/health")
    async def health() -> JSONResponse:
        """What is served, after a forward pass."""
        return JSONResponse(await running().health())

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Counters in Prometheus' format."""
        return Response(metrics.text(), media_type=metrics.content_type)

    answer_errors(app)
    return app


def answer_errors(app: FastAPI) -> None:
    """Have an application answer errors as {"error": "one sentence"}."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, value = first["loc"][-1], first.get("input")
    return JSONResponse({"error": f"{name}={value!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"}, 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the network failed on this image: {error}"}, 500)


class _Counted:
    """Counts requests by path, status and time."""

    def __init__(self, app: ASGIApp, answered: Callable[[str, int, float], None]) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self._answered(path, status, time.perf_counter() - began)
