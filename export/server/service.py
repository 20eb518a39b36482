import asyncio
import os
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.export.server.answer import MapFormat, answer
from abn_fast.export.server.batcher import MicroBatcher
from abn_fast.export.server.body import read_body
from abn_fast.export.server.metrics import Metrics
from abn_fast.export.server.predictor import Prediction, Predictor, check_finite
from abn_fast.export.server.read_image import read_image
from abn_fast.export.server.refusal import Refusal
from abn_fast.export.server.settings import ServerSettings

Result = TypeVar("Result")
Box = tuple[float, float, float, float]
HEALTH_SECONDS = 30.0


class Service:
    """What the server's paths do. Pictures are decoded in threads, a few at a time; batches run in one.

    Args:
        predictor: the network.
        settings: limits.
        metrics: to count in.
    """

    def __init__(self, predictor: Predictor, settings: ServerSettings, metrics: Metrics) -> None:
        self._predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "pictures")
        self._batcher: MicroBatcher[Prediction] = MicroBatcher(
            predictor.run,
            settings.batch_for(predictor.session.metadata.batch),
            settings.max_wait / 1000,
            metrics.batch_size.observe,
        )
        metrics.watch_queue(lambda: self._batcher.waiting)

    async def predict(self, request: Request, top: int, map_format: MapFormat | None) -> dict[str, Any]:
        """The answer to a request with an image; map_format None stands for array where the network has a map.

        Raises:
            Refusal: what was sent is no image or too much, or the server is full.
            ClientDisconnect: nobody waits for the answer any more.
        """
        if map_format is None:
            map_format = "array" if self._predictor.has_map else "none"
        if map_format != "none" and not self._predictor.has_map:
            raise Refusal(400, f"map={map_format!r}: the file has no map; ask for map=none")
        with self._place():
            data = await read_body(request, self._settings.max_bytes, self._settings.upload_seconds)
            image, box = await self._in_thread(partial(self._picture, data))
            del data
            prediction = await _unless_gone(request, self._batcher.submit(image))
            check_finite(prediction)
            size = self._predictor.preprocessing.image_size
            return await self._in_thread(
                partial(answer, prediction, self._predictor.classes, top, map_format, size, box)
            )

    async def health(self) -> dict[str, Any]:
        """What is served, after a forward pass of a blank image among the others.

        Raises:
            Refusal: 503, the pass failed or took too long.
        """
        try:
            check_finite(await asyncio.wait_for(self._batcher.submit(self._predictor.blank()), HEALTH_SECONDS))
        except asyncio.TimeoutError:  # Python 3.10's is another than TimeoutError
            raise Refusal(503, f"no forward pass within {HEALTH_SECONDS:g} s") from None
        except Exception as error:
            raise Refusal(503, f"the forward pass failed: {error}") from None
        session = self._predictor.session
        return {
            "status": "ok",
            "model": session.metadata.model,
            "runtime": session.runtime,
            "provider": session.provider,
            "precision": session.metadata.precision,
            "num_classes": session.metadata.num_classes,
        }

    async def close(self) -> None:
        """Answer what is under way, then stop."""
        await self._batcher.close()
        self._threads.shutdown()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the `max_queue` places.

        Raises:
            Refusal: 503, all are taken.
        """
        if self._in_flight >= self._settings.max_queue:
            raise Refusal(503, f"{self._in_flight} requests are under way: try again later", {"Retry-After": "1"})
        self._in_flight += 1
        self._metrics.requests_now.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.requests_now.set(self._in_flight)

    def _picture(self, data: bytes) -> tuple[Tensor, Box]:
        """What the network takes, and the rectangle of the picture that it shows."""
        preprocessing = self._predictor.preprocessing
        picture = read_image(data, self._settings.max_pixels)
        try:
            return preprocessing(picture), preprocessing.crop_box(*picture.size)
        except AbnFastError as error:
            raise Refusal(400, str(error)) from None

    async def _in_thread(self, work: "partial[Result]") -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is given up when the client of a request whose body has been read goes away.

    Raises:
        ClientDisconnect: it went.
    """
    answer_task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer_task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer_task.done():
            raise ClientDisconnect
        return answer_task.result()
    finally:
        answer_task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
