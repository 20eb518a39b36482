import pytest
import torch
from torch import nn

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics import confidence_change
from tests.explain.metrics._linear import linear, weights


def test_drop_and_increase_of_a_linear_model() -> None:
    importance = weights()
    signs = torch.ones(8, 8, dtype=torch.float64)
    signs[:2] = -1
    images, maps = signs.expand(2, 3, 8, 8), torch.ones(2, 8, 8, dtype=torch.float64)
    maps[0, :2] = 0  # leaves out what speaks against the class
    maps[1, 2:] = 0.25
    p = float((importance * signs).sum())
    against = float(importance[:2].sum())
    left = [p + against, 0.25 * (p + against) - against]
    found = confidence_change(linear(importance), images, maps, torch.ones(2, dtype=torch.int64))
    assert found.increase.tolist() == [True, False]
    torch.testing.assert_close(found.drop, torch.tensor([0, (p - left[1]) / p], dtype=torch.float64))


def test_the_change_is_pytorch_grad_cam_s() -> None:
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image").CamMultImageConfidenceChange()
    target = pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    images, maps = torch.randn(5, 3, 8, 8), torch.rand(5, 8, 8)
    changes = torch.from_numpy(theirs(images, maps.numpy(), [target] * 5, model))
    found = confidence_change(model, images, maps, torch.ones(5, dtype=torch.int64))
    with torch.no_grad():
        before = model(images)[:, 1]
    torch.testing.assert_close(found.drop * before, (-changes).clamp(min=0), atol=1e-6, rtol=1e-4)
    assert torch.equal(found.increase, changes > 0)


def test_a_map_of_ones_loses_nothing_and_one_of_zeros_all() -> None:
    maps = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])
    found = confidence_change(linear(weights()), torch.ones(2, 3, 8, 8), maps, torch.ones(2, dtype=torch.int64))
    assert found.drop.tolist() == [0, 1]


def test_maps_out_of_range_are_refused() -> None:
    with pytest.raises(AbnFastError, match=r"maps have values in .* expected \[0, 1\]; rescale"):
        confidence_change(linear(weights()), torch.ones(1, 3, 8, 8), torch.full((1, 8, 8), 2.0), torch.tensor([1]))
