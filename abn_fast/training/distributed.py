"""The processes that train together, as torchrun starts them; alone, every function does what one process needs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from abn_fast._errors import AbnFastError


def launched() -> bool:
    """Whether torchrun started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; yields this one's device.

    Raises:
        AbnFastError: this machine has fewer GPUs than processes.
    """
    if not launched():
        yield device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise AbnFastError(
                f"process {local} of this machine has no GPU: it has {torch.cuda.device_count()}; "
                "start as many processes with --nproc-per-node"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if _together() else 0


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of every process's x."""
    if _together():
        x = x.clone()
        dist.all_reduce(x)
    return x


def values_of_processes(values: list[float]) -> list[list[float]]:
    """Every process's values, in the order of their ranks."""
    if not _together():
        return [values]
    gathered: list[list[float]] = [[]] * world_size()
    dist.all_gather_object(gathered, values)
    return gathered


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    return bool(sum_over_processes(torch.tensor(float(flag), device=device)) > 0) if _together() else flag


def copy_buffers_of_the_first(model: nn.Module) -> None:
    """Give every process the running statistics of the first: those that its checkpoint holds."""
    if _together():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if _together():
        dist.barrier()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
