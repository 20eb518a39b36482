"""Processes that start together find each other, whatever those before them left in the store."""

import threading
import time
from typing import Any

import pytest

from abn_fast.training import distributed

dist = pytest.importorskip("torch.distributed")
pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")


def start(store: Any, world_size: int, late: int) -> list[str]:
    """What each process finds under a key that the first one sets, where one of them is late."""
    found = [""] * world_size

    def process(rank: int) -> None:
        time.sleep(0.2 * (rank == late))
        own = distributed.of_this_start(store, rank, world_size)
        if rank == 0:
            own.set("address", f"{time.perf_counter()}")
        found[rank] = own.get("address").decode()

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("late", [0, 1])
def test_a_restart_does_not_read_what_the_killed_processes_wrote(late: int) -> None:
    store = dist.HashStore()
    starts = [start(store, world_size, late) for world_size in (3, 3, 2)]
    assert [len(set(found)) for found in starts] == [1, 1, 1]
    assert len({found[0] for found in starts}) == 3
