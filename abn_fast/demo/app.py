import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import EditedMap
from abn_fast.demo.explainer import Explainer, Shown
from abn_fast.demo.gallery import Gallery, Seen, data_url
from abn_fast.explain.edit import write_map
from abn_fast.export.server.app import answer_errors
from abn_fast.export.server.body import read_body
from abn_fast.export.server.refusal import Refusal
from abn_fast.export.server.settings import ServerSettings

Result = TypeVar("Result")
PAGE = Path(__file__).with_name("page.html")
OWN_FILES_ONLY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data: blob:; "
)
OWN_FILES_ONLY += "connect-src 'self'"


def create_demo(explainer: Explainer, settings: ServerSettings, images: Path | None = None) -> FastAPI:
    """The web application of the page: `GET /`, and what it asks for under `/api`.

    Errors are answered as {"error": "one sentence"}. One picture is computed at a time.

    Args:
        explainer: the network.
        settings: limits: max_bytes, max_pixels, max_queue, upload_seconds.
        images: folder of sample pictures.

    Raises:
        AbnFastError: the folder has no pictures.
    """
    gallery = Gallery(explainer.preprocessing, settings.max_pixels, images)
    one_at_a_time = ThreadPoolExecutor(1, "explainer")
    waiting = 0
    app = FastAPI(title="abn-fast demo", openapi_url=None)
    answer_errors(app)

    async def compute(work: Callable[[], Result]) -> Result:
        nonlocal waiting
        if waiting >= settings.max_queue:
            raise Refusal(503, f"{waiting} pictures are waiting: try again later", {"Retry-After": "1"})
        waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(one_at_a_time, work)
        except AbnFastError as error:
            raise Refusal(400, str(error)) from None
        finally:
            waiting -= 1

    def check_task(task: int) -> None:
        if not 0 <= task < (len(explainer.classes) if explainer.tasks else 1):
            raise Refusal(400, f"task={task}: there is no such task")

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": OWN_FILES_ONLY})

    @app.get("/api/network")
    async def network() -> dict[str, Any]:
        return {
            "name": explainer.name,
            "about": explainer.about,
            "tasks": list(explainer.classes) if explainer.tasks else [],
            "samples": [path.name for path in gallery.samples],
            "noPainting": explainer.no_painting,
            "notes": explainer.notes,
            "maxBytes": settings.max_bytes,
        }

    @app.get("/api/samples/{index}")
    async def sample(index: int) -> Response:
        return Response(await compute(lambda: gallery.thumbnail(index)), media_type="image/png")

    @app.post("/api/explain")
    async def explain(request: Request, sample: int | None = None, image: str | None = None, task: int = 0) -> Response:
        """Of a sample, of a picture that was sent before, or of the body: the file, or a form's field `image`."""
        check_task(task)
        data = b""
        if sample is None and image is None:
            data = await read_body(request, settings.max_bytes, settings.upload_seconds)

        def work() -> dict[str, Any]:
            key = image or gallery.add(data if sample is None else gallery.sample(sample))
            seen = gallery.kept(key)
            shown = explainer.explain(seen.image, (seen.tile.height, seen.tile.width), task)
            return {"image": key, **_answer(shown, seen, explainer, task)}

        return JSONResponse(await compute(work))

    @app.post("/api/predict")
    async def predict(request: Request, image: str, task: int = 0) -> Response:
        """The prediction with a painted map, the body: rows of numbers in [0, 1] as JSON."""
        check_task(task)
        data = await read_body(request, settings.max_bytes, settings.upload_seconds)

        def work() -> dict[str, Any]:
            if explainer.no_painting is not None:
                raise Refusal(400, explainer.no_painting)
            probabilities = explainer.predict(gallery.kept(image).image, _painted(data), task)
            return {"predictions": _predictions(probabilities, explainer)}

        return JSONResponse(await compute(work))

    @app.post("/api/map")
    async def save_map(request: Request, image: str) -> Response:
        """A painted map as the picture that `abn-fast edit --map` and `abn-fast train --edited-maps` read."""
        data = await read_body(request, settings.max_bytes, settings.upload_seconds)

        def work() -> bytes:
            seen = gallery.kept(image)
            with TemporaryDirectory() as folder:
                file = Path(folder, "map.png")
                write_map(_painted(data).values, seen.size, seen.box, file)
                return file.read_bytes()

        return Response(await compute(work), media_type="image/png")

    return app


def _answer(shown: Shown, seen: Seen, explainer: Explainer, task: int) -> dict[str, Any]:
    if not bool(shown.probabilities.isfinite().all()):
        raise Refusal(500, "the network's output for this image is NaN or infinite")
    attention = None if shown.attention is None else shown.attention[task]
    probabilities = shown.probabilities
    return {
        "tile": data_url(seen.tile),
        "predictions": _predictions(probabilities, explainer),
        "map": None if attention is None else [[round(value, 4) for value in row] for row in attention.tolist()],
        "evidence": [
            {"name": explainer.classes[index], "probability": float(probabilities[index]), "picture": seen.under(heat)}
            for index, heat in shown.evidence
        ],
        "gradCam": None if shown.grad_cam is None else seen.under(shown.grad_cam),
    }


def _predictions(probabilities: Tensor, explainer: Explainer) -> list[dict[str, Any]]:
    """All classes, likeliest first, or the tasks in their order."""
    if explainer.tasks:
        chosen, values = list(range(len(explainer.classes))), probabilities[:, 1]
    else:
        chosen, values = probabilities.argsort(descending=True, stable=True).tolist(), probabilities
    return [{"name": explainer.classes[i], "index": i, "probability": float(values[i])} for i in chosen]


def _painted(data: bytes) -> EditedMap:
    """The map in a request.

    Raises:
        Refusal: 400, it is none.
    """
    try:
        values = torch.tensor(json.loads(data), dtype=torch.float32)
    except (ValueError, TypeError, RecursionError):
        raise Refusal(400, "the painted map is not rows of numbers, all of one length") from None
    if values.ndim != 2 or not values.numel():
        raise Refusal(400, f"the painted map has shape {list(values.shape)}; expected rows of numbers")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise Refusal(400, "the painted map has values outside [0, 1]")
    return EditedMap(values, torch.ones_like(values))
