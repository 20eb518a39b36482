"""Batches that loader processes read, and their way to the device."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from abn_fast import AbnFastError
from abn_fast.data import InMemoryImages, UnreadableImageError
from abn_fast.training import _feed
from abn_fast.training._feed import Feed, ahead, image_loader, moved
from tests.training._data import stripes

CPU = torch.device("cpu")
BATCHES = [[5, 2, 9], [0], [7, 7, 1, 3], [4, 8], [6]]


class Failing(InMemoryImages):
    """Raises an error, or sends a signal to its process, where image 3 is read."""

    error: Exception | None = None

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        if 3 in indices:
            if self.error is not None:
                raise self.error
            assert get_worker_info() is not None
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitems__(indices)


def failing(error: Exception | None = None) -> Failing:
    data = stripes(12)
    data.__class__ = Failing
    assert isinstance(data, Failing)
    data.error = error
    return data


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_are_the_data_sets_own(workers: int) -> None:
    data = stripes(12)
    data.set_epoch(3)
    feed, state = Feed(data, CPU, workers), torch.get_rng_state()
    batches = list(feed.batches(BATCHES))
    assert torch.equal(torch.get_rng_state(), state)
    assert feed.source == f"loader with {workers} workers"
    assert feed.waited > 0
    for (images, labels), indices in zip(batches, BATCHES, strict=True):
        expected, expected_labels = data.batch(indices)
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error", [UnreadableImageError("image 'a/3.png': it is cut off"), AbnFastError("3 of 12 images cannot be read")]
)
def test_what_a_worker_cannot_read_is_one_line_after_the_batches_before(error: AbnFastError, workers: int) -> None:
    batches = moved(image_loader(failing(error), workers, BATCHES), CPU)
    assert [len(next(batches)[0]) for _ in range(2)] == [3, 1]
    with pytest.raises(AbnFastError) as caught:
        next(batches)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_a_defect_in_a_worker_keeps_its_trace() -> None:
    with pytest.raises(ZeroDivisionError, match="in __getitems__"):
        list(moved(image_loader(failing(ZeroDivisionError("a defect")), 1, BATCHES), CPU))


def test_an_interrupt_of_the_terminal_does_not_end_the_workers() -> None:
    images = [len(images) for images, _ in moved(image_loader(failing(), 1, BATCHES), CPU)]
    assert images == [len(indices) for indices in BATCHES]


class Stream:
    """Stands for a stream of a GPU; tells what happens on which."""

    current: "Stream"
    events: list[str]

    def __init__(self, name: str = "copying") -> None:
        self.name = name

    def wait_stream(self, other: "Stream") -> None:
        Stream.events.append(f"{self.name} waits for {other.name}")


class OnGpu:
    """Stands for a tensor on a GPU."""

    def __init__(self, name: str) -> None:
        self.name = name

    def record_stream(self, stream: Stream) -> None:
        Stream.events.append(f"{self.name} is used by {stream.name}")


def test_a_gpu_copies_the_next_batch_while_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    Stream.current, Stream.events = Stream("computing"), []

    @contextlib.contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        before, Stream.current = Stream.current, chosen
        yield
        Stream.current = before

    def copied(loader: Any, device: torch.device) -> Iterator[tuple[OnGpu]]:
        for name in loader:
            Stream.events.append(f"{Stream.current.name} copies {name}")
            yield (OnGpu(name),)

    monkeypatch.setattr(_feed, "moved", copied)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream.current)
    for (batch,) in ahead(["a", "b"], CPU):  # type: ignore[arg-type, misc]  # stands for a loader
        Stream.events.append(f"{Stream.current.name} steps on {batch.name}")
    assert Stream.events == [
        "copying copies a",
        "computing waits for copying",
        "a is used by computing",
        "copying copies b",
        "computing steps on a",
        "computing waits for copying",
        "b is used by computing",
        "computing steps on b",
    ]


def test_files_get_a_worker_a_core_and_memory_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(12), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert _feed.workers_for(object()) == 4  # type: ignore[arg-type]  # no images in memory
    assert _feed.workers_for(stripes(3)) == 0
