"""Batches on the model's device: from pictures that are kept there, or loaded while the step before runs."""

import os
import signal
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from abn_fast._errors import AbnFastError
from abn_fast.data import ImageDataset, InMemoryImages
from abn_fast.data.on_device import ImagesOnDevice

Batch = tuple[Tensor, Tensor]


class Feed:
    """The batches of a training set, images channels_last, on a device.

    Args:
        dataset: the training set.
        device: of the model.
        workers: processes that load images, where these are not kept on the device.

    Attributes:
        waited: seconds spent on waiting for batches.
        source: what the batches come from, for people.
    """

    def __init__(self, dataset: ImageDataset, device: torch.device, workers: int) -> None:
        self._dataset, self._device, self._workers = dataset, device, workers
        self._kept: ImagesOnDevice | None = None
        if ImagesOnDevice.fits(dataset, device) and isinstance(dataset, InMemoryImages):
            self._kept = ImagesOnDevice(dataset, device)
        self.source = "images on the device" if self._kept else f"loader with {workers} workers"
        self.waited = 0.0

    def batches(self, indices: Sequence[list[int]]) -> Iterator[Batch]:
        """The batches of these images, in this order."""
        batches = self._batches(indices)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _batches(self, indices: Sequence[list[int]]) -> Iterator[Batch]:
        if self._kept is not None:
            return map(self._kept.batch, indices)
        loader = image_loader(self._dataset, self._workers, indices)
        return ahead(loader, self._device) if self._device.type == "cuda" else moved(loader, self._device)


def image_loader(dataset: ImageDataset, workers: int, batches: Sequence[list[int]]) -> "DataLoader[Batch]":
    """The batches of a data set that have these indices; unlike torch's default it leaves the random state alone."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
        worker_init_fn=_leave_interrupts_to_the_parent,
    )


def _leave_interrupts_to_the_parent(worker: int) -> None:
    """A terminal's Ctrl-C reaches a loader's workers too; the parent goes on to the end of its step and needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def moved(loader: "DataLoader[Batch]", device: torch.device) -> Iterator[Batch]:
    """The loader's batches on the device; what a worker cannot read is told in its own line, without its trace."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except AbnFastError as error:
            kind, _, message = str(error).strip().splitlines()[-1].partition(": ")
            raise error if not kind.endswith(type(error).__name__) else type(error)(message) from None
        if batch is None:
            return
        images, target = batch
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        yield images, target.to(device, non_blocking=True)


def ahead(loader: "DataLoader[Batch]", device: torch.device) -> Iterator[Batch]:
    """The loader's batches on a GPU, each copied by a stream of its own while the step before runs."""
    copying, previous = torch.cuda.Stream(device), None
    batches = moved(loader, device)
    while True:
        with torch.cuda.stream(copying):
            following = next(batches, None)
        if previous is not None:
            yield previous
        if following is None:
            return
        torch.cuda.current_stream(device).wait_stream(copying)
        for each in following:
            each.record_stream(torch.cuda.current_stream(device))
        previous = following


def workers_for(dataset: ImageDataset) -> int:
    """How many processes should load images: for files as many as this process has cores, up to 8; else none."""
    if isinstance(dataset, InMemoryImages):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
