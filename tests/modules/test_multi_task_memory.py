"""Memory of a multi-task evaluation, counted as the bytes of all storages that are alive after an operator."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from abn_fast.modules import MultiTaskABN
from bench.peers.published_multi_task import task_by_task
from tests.modules.test_multi_task import make


class _LiveBytes(TorchDispatchMode):
    """What operators have allocated and nobody has let go; `peak` is the most of it at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)
        }
        results = func(*args, **(kwargs or {}))
        for each in tree_leaves(results):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage(), given)
        return results

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        if storage._cdata in self._seen | given:
            return
        self._seen.add(storage._cdata)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def peak(run: Callable[[], object]) -> int:
    counted = _LiveBytes()
    with torch.no_grad(), counted:
        run()
    return counted.peak


def test_bytes_are_counted_until_they_are_let_go() -> None:
    def run() -> None:
        x = torch.zeros(1000, dtype=torch.uint8)
        x = x + 1  # both are alive until the sum has taken the name
        x.view(10, 100).add_(1)
        del x
        torch.zeros(1500, dtype=torch.uint8)

    assert peak(run) == 2000


def without_extractor(tasks: int) -> MultiTaskABN:
    model = make(tasks=tasks).eval()
    model.extractor = torch.nn.Identity()
    return model


def test_evaluation_takes_no_more_than_the_loop_and_a_chunk() -> None:
    model = without_extractor(tasks=24)
    branch = model.perception_branch
    features = torch.randn(4, 128, 9, 9, dtype=torch.float64)
    one_task = peak(lambda: branch.forward_features(features * 2))
    loop = peak(lambda: task_by_task(model, features))
    for chunk in (1, 3, 8):
        model.task_chunk = chunk
        assert peak(lambda: model(features)) <= loop + chunk * one_task
    model.task_chunk = 24
    assert peak(lambda: model(features)) > loop + 8 * one_task


def test_more_tasks_in_chunks_take_no_more_than_their_maps_and_logits() -> None:
    features = torch.randn(4, 128, 9, 9, dtype=torch.float64)
    peaks = []
    for tasks in (8, 16):
        model = without_extractor(tasks)
        model.task_chunk = 4
        peaks.append(peak(lambda model=model: model(features)))  # type: ignore[misc]  # mypy sees no default
    maps = 8 * 4 * 9 * 9 * 8  # 8 more tasks, in float64
    assert peaks[1] - peaks[0] <= 4 * maps
