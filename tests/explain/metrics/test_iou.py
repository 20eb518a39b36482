import numpy as np
import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted
from abn_fast.explain.metrics import best_iou, iou


def test_it_is_intersection_over_union_of_mask_and_box() -> None:
    random = np.random.default_rng(0)
    maps = random.random((20, 9, 13))
    maps[:, 0, 0], maps[:, 8, 12] = 0, 1  # stretching changes nothing
    first = np.stack([random.integers(0, 6, 20), random.integers(0, 4, 20)], 1)
    boxes = np.concatenate([first, first + random.integers(1, 6, (20, 2))], 1)
    for threshold in (0.0, 0.3, 0.8, 1.0):
        expected = []
        for one, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
            mask = {(row, column) for row in range(9) for column in range(13) if one[row, column] >= threshold}
            box = {(row, column) for row in range(y0, y1) for column in range(x0, x1)}
            expected.append(len(mask & box) / len(mask | box))
        found = iou(torch.from_numpy(maps), torch.from_numpy(boxes), threshold)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_a_map_is_stretched_to_its_own_range_first() -> None:
    maps, boxes = torch.rand(3, 8, 8), torch.tensor([[2, 2, 6, 7]] * 3)
    assert torch.equal(iou(maps, boxes), iou(0.25 * maps + 0.5, boxes))


def test_the_box_itself_scores_1_and_its_inverse_0() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[:, 2:5, 1:7] = 0.4
    box = torch.tensor([[1, 2, 7, 5]])
    assert iou(maps, box).tolist() == [1]
    assert iou(inverted(maps), box).tolist() == [0]


def test_a_constant_map_has_an_empty_mask() -> None:
    box = torch.tensor([[0, 0, 4, 4]])
    assert iou(torch.full((1, 8, 8), 0.7), box).tolist() == [0]
    assert iou(torch.full((1, 8, 8), 0.7), box, 0.0).tolist() == [16 / 64]


def test_the_best_threshold_is_that_of_all_maps_together() -> None:
    maps, boxes = torch.rand(12, 10, 10), torch.tensor([[2, 2, 7, 8]] * 12)
    maps[:, 3:7, 3:6] += 0.5
    best = best_iou(maps, boxes)
    tried = {step / 100: float(iou(maps, boxes, step / 100).mean()) for step in range(101)}
    assert float(best.iou.mean()) == pytest.approx(max(tried.values()))
    assert tried[best.threshold] == pytest.approx(max(tried.values()), abs=1e-6)
    assert max(tried.values()) > tried[0.5]


def test_a_threshold_outside_its_range_is_refused() -> None:
    with pytest.raises(AbnFastError, match=r"threshold \[1\.5\]: expected numbers from 0 to 1"):
        iou(torch.rand(1, 4, 4), torch.tensor([[0, 0, 2, 2]]), 1.5)
