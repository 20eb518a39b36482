"""Micro-batching of images that arrive one by one."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast.export.server.batcher import MicroBatcher

SOON, NEVER = 60.0, 3600.0


def sums(images: Tensor) -> list[float]:
    """Each image's sum; the network of these tests."""
    return images.sum((1, 2, 3)).tolist()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, SOON))


async def with_batcher(
    use: Callable[[MicroBatcher[float]], Awaitable[Any]],
    network: Callable[[Tensor], list[float]] = sums,
    max_batch: int = 4,
    max_wait: float = 0.01,
) -> tuple[Any, list[int]]:
    sizes: list[int] = []
    batcher = MicroBatcher(network, max_batch, max_wait, sizes.append)
    result = await use(batcher)
    await batcher.close()
    return result, sizes


def test_images_share_batches_and_each_gets_its_own_result() -> None:
    images = [torch.full((1, 2, 2), float(index)) for index in range(10)]

    async def use(batcher: MicroBatcher[float]) -> list[float]:
        return await asyncio.gather(*(batcher.submit(image) for image in images))

    results, sizes = run(with_batcher(use))
    assert results == [4.0 * index for index in range(10)]
    assert sizes == [4, 4, 2]


def test_only_images_of_one_shape_share_a_batch() -> None:
    shapes = [(1, 2, 2), (1, 2, 3), (1, 2, 2), (1, 5, 1), (1, 2, 3)]
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> list[float]:
        seen.append(tuple(images.shape))
        return sums(images)

    async def use(batcher: MicroBatcher[float]) -> list[float]:
        return await asyncio.gather(*(batcher.submit(torch.ones(shape)) for shape in shapes))

    results, _ = run(with_batcher(use, network))
    assert results == [4, 6, 4, 5, 6]
    assert sorted(seen) == [(1, 1, 5, 1), (2, 1, 2, 2), (2, 1, 2, 3)]


def test_a_full_batch_does_not_wait_and_a_lone_image_waits_no_longer_than_it_must() -> None:
    async def pair(batcher: MicroBatcher[float]) -> list[float]:
        return await asyncio.gather(*(batcher.submit(torch.ones(1, 1, 1)) for _ in range(2)))

    assert run(with_batcher(pair, max_batch=2, max_wait=NEVER)) == ([1, 1], [2])

    async def alone(batcher: MicroBatcher[float]) -> float:
        return await batcher.submit(torch.ones(1, 1, 1))

    assert run(with_batcher(alone)) == (1, [1])


def test_an_image_that_fails_fails_alone() -> None:
    def network(images: Tensor) -> list[float]:
        if (images < 0).any():
            raise RuntimeError("negative")
        return sums(images)

    async def use(batcher: MicroBatcher[float]) -> list[Any]:
        images = [torch.full((1, 1, 1), value) for value in (1.0, -1.0, 3.0)]
        return await asyncio.gather(*map(batcher.submit, images), return_exceptions=True)

    (first, second, third), sizes = run(with_batcher(use, network))
    assert (first, third) == (1, 3)
    assert isinstance(second, RuntimeError)
    assert sizes == [1, 1]


def test_a_network_that_loses_an_image_is_an_error() -> None:
    async def use(batcher: MicroBatcher[float]) -> Any:
        return await asyncio.gather(batcher.submit(torch.ones(1, 1, 1)), return_exceptions=True)

    ([result], _) = run(with_batcher(use, lambda images: []))
    assert "0 results for 1 images" in str(result)


def test_an_image_whose_caller_has_gone_is_left_out() -> None:
    go, began = threading.Event(), threading.Event()

    def network(images: Tensor) -> list[float]:
        began.set()
        go.wait(SOON)
        return sums(images)

    async def use(batcher: MicroBatcher[float]) -> list[float]:
        first = asyncio.create_task(batcher.submit(torch.ones(1, 1, 1)))
        await asyncio.to_thread(began.wait, SOON)
        others = [asyncio.create_task(batcher.submit(torch.full((1, 1, 1), value))) for value in (2.0, 3.0)]
        await asyncio.sleep(0)
        assert batcher.waiting == 2
        others[0].cancel()
        await asyncio.sleep(0)
        go.set()
        return [await first, await others[1]]

    assert run(with_batcher(use, network, max_wait=0)) == ([1, 3], [1, 1])


def test_closing_answers_what_waits_and_refuses_more() -> None:
    async def use(batcher: MicroBatcher[float]) -> float:
        waiting = asyncio.create_task(batcher.submit(torch.ones(1, 2, 1)))
        await asyncio.sleep(0)
        await batcher.close()
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.submit(torch.ones(1, 2, 1))
        return await waiting

    result, sizes = run(with_batcher(use, max_wait=NEVER))
    assert (result, sizes) == (2, [1])
