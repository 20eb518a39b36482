"""The processes that train together, as torchrun starts them; alone, every function does what one process needs."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    from torch.distributed.rendezvous import rendezvous

    store, rank, world_size = next(rendezvous("env://"))
    store = of_this_start(store, rank, world_size)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def of_this_start(store: Any, rank: int, world_size: int) -> Any:
    """The part of a store that processes which started together have for themselves.

    torchrun's agent keeps its store when it restarts the processes, and with it the addresses of those that are gone,
    to which new ones then connect in vain (https://github.com/pytorch/pytorch/issues/135712). No number that an agent
    gives its processes is the same on all machines, so the first process makes one up and answers every call with
    it until that caller, and not one that is gone, has taken it.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    own = uuid.uuid4().hex
    if rank:
        store.set(f"call {rank}", own)
        start = store.get(f"answer {own}").decode()  # waits for it
        store.set(f"{start} {rank}", "taken")
        return PrefixStore(start, store)
    for other in range(1, world_size):
        while not store.check([f"{own} {other}"]):
            if store.check([f"call {other}"]):
                store.set(f"answer {store.get(f'call {other}').decode()}", own)
            time.sleep(0.01)
    return PrefixStore(own, store)


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
