import numpy as np
import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted
from abn_fast.explain.metrics import deletion, insertion
from abn_fast.explain.metrics.insertion_deletion import blurred
from tests.explain.metrics._linear import linear, weights

TARGETS = torch.ones(1, dtype=torch.int64)


def area(points: list[float]) -> float:
    return float(np.trapezoid(points, dx=1 / (len(points) - 1)))


def test_deletion_of_a_linear_model_is_what_is_left_of_its_weights() -> None:
    importance = weights()
    images = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    ordered = importance.flatten().sort(descending=True).values.numpy()
    expected = area([1 - ordered[: 64 * step // 8].sum() for step in range(9)])
    found = deletion(linear(importance), images, importance[None], TARGETS)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_insertion_of_a_linear_model_goes_from_the_blur_to_the_image() -> None:
    importance = weights()
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    order = importance.flatten().argsort(descending=True).tolist()
    start, end = blurred(images)[0, 0].flatten(), images[0, 0].flatten()
    points = []
    for step in range(5):
        mixed = start.clone()
        mixed[order[: 16 * step]] = end[order[: 16 * step]]
        points.append(float((mixed * importance.flatten()).sum()))
    found = insertion(linear(importance), images, importance[None], TARGETS, steps=4)
    assert float(found) == pytest.approx(area(points), rel=1e-9)


def test_the_blur_is_scipy_s() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    images = torch.rand(2, 3, 9, 14, dtype=torch.float64)
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 5, 5), mode="nearest", radius=(0, 0, 5, 5))
    np.testing.assert_allclose(blurred(images).numpy(), expected, rtol=1e-9)


def test_the_right_order_beats_a_random_and_that_the_inverted_one() -> None:
    importance = weights(16, 16)
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64) + 0.5
    maps = (importance * images[0, 0])[None]
    random = torch.rand(1, 16, 16)
    scores = [float(deletion(linear(importance), images, each, TARGETS)) for each in (maps, random, inverted(maps))]
    assert scores[0] < scores[1] < scores[2]


def test_pixels_of_equal_importance_do_not_go_from_the_top_down() -> None:
    top = torch.zeros(8, 8)
    top[:4] = 1 / 32
    found = deletion(linear(top), torch.ones(1, 3, 8, 8), torch.zeros(1, 8, 8), TARGETS)
    assert float(found) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("metric", [deletion, insertion])
def test_maps_of_another_size_are_refused(metric) -> None:  # type: ignore[no-untyped-def]  # either function
    with pytest.raises(AbnFastError, match=r"maps have shape \[1, 4, 4\], expected \[1, 8, 8\].*upsample") as error:
        metric(linear(weights()), torch.rand(1, 3, 8, 8), torch.rand(1, 4, 4), TARGETS)
    assert "\n" not in str(error.value)


def test_targets_of_another_length_are_refused() -> None:
    with pytest.raises(AbnFastError, match="expected a class number for 1 images"):
        deletion(linear(weights()), torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8), torch.ones(2, dtype=torch.int64))
