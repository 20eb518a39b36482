import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


@dataclass
class _Waiting(Generic[Result]):
    image: Tensor
    arrived: float
    answer: "asyncio.Future[Result]"


class MicroBatcher(Generic[Result]):
    """Gathers images that arrive one by one into batches; only images of one shape share a batch.

    A batch is run when `max_batch` images of its shape are there, or when its oldest has waited for `max_wait`. One
    batch runs at a time, in a thread; what arrives meanwhile makes the next. A batch that fails is run again image by
    image, so that only those that fail alone fail. An image whose caller has gone is left out.

    Args:
        run: results, one an image, of a batch [N, C, H, W].
        max_batch: images at a time.
        max_wait: seconds.
        batch_ran: told the number of images of each batch.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Sequence[Result]],
        max_batch: int,
        max_wait: float,
        batch_ran: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._batch_ran = batch_ran
        self._waiting: dict[torch.Size, deque[_Waiting[Result]]] = {}
        self._changed = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "batches")
        self._worker = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet."""
        return sum(len(group) for group in self._waiting.values())

    async def submit(self, image: Tensor) -> Result:
        """The result of one image [C, H, W].

        Raises:
            RuntimeError: the batcher is closed.
            Exception: whatever `run` raises for this image alone.
        """
        if self._closing:
            raise RuntimeError("the batcher is closed")
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Result] = _Waiting(image, loop.time(), loop.create_future())
        self._waiting.setdefault(image.shape, deque()).append(waiting)
        self._changed.set()
        return await waiting.answer

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closing = True
        self._changed.set()
        await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := await self._next_batch():
            present = [waiting for waiting in batch if not waiting.answer.done()]
            if not present:
                continue
            results = await loop.run_in_executor(self._thread, self._results, [waiting.image for waiting in present])
            for waiting, result in zip(present, results, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(result, Exception):
                    waiting.answer.set_exception(result)
                else:
                    waiting.answer.set_result(result)

    async def _next_batch(self) -> list[_Waiting[Result]]:
        """The batch of the oldest image, once it is full or due; none after closing, when nothing waits."""
        while True:
            self._changed.clear()
            if not self._waiting:
                if self._closing:
                    return []
                await self._changed.wait()
                continue
            shape, group = min(self._waiting.items(), key=lambda item: item[1][0].arrived)
            remaining = group[0].arrived + self._max_wait - asyncio.get_running_loop().time()
            if len(group) < self._max_batch and remaining > 0 and not self._closing:
                await self._wait_for_change(remaining)
                continue
            batch = [group.popleft() for _ in range(min(len(group), self._max_batch))]
            if not group:
                del self._waiting[shape]
            return batch

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:  # Python 3.10's is another than TimeoutError
            return

    def _results(self, images: list[Tensor]) -> list[Result | Exception]:
        try:
            results = list(self._run(torch.stack(images)))
            if len(results) != len(images):
                raise RuntimeError(f"{len(results)} results for {len(images)} images")
        except Exception as error:  # whatever the network raises becomes an answer
            if len(images) == 1:
                return [error]
            return [result for image in images for result in self._results([image])]
        self._batch_ran(len(images))
        return list(results)
