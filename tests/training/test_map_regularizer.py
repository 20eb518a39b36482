import torch

from abn_fast.modules import ABNOutput
from abn_fast.training.config import LossConfig
from abn_fast.training.map_regularizer import map_area
from abn_fast.training.objective import loss_of


def test_it_is_the_share_that_is_attended_to_and_pushes_every_pixel_down() -> None:
    maps = torch.zeros(2, 1, 4, 4)
    maps[0, 0, :2] = 1
    assert float(map_area(maps)) == 0.25
    maps.requires_grad_()
    map_area(maps + 0.5).backward()
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, torch.full_like(maps, 1 / maps.numel()))


def test_16_bit_maps_are_averaged_in_float32() -> None:
    maps = torch.rand(4, 1, 64, 64).bfloat16()
    torch.testing.assert_close(map_area(maps).double(), maps.double().mean(), rtol=1e-5, atol=0)


def test_the_loss_has_it_when_it_has_a_weight() -> None:
    output = ABNOutput(torch.randn(3, 5), torch.randn(3, 5), torch.rand(3, 1, 4, 4))
    target = torch.arange(3)
    plain, weighted = (loss_of(output, target, LossConfig(map_area_weight=weight)) for weight in (0.0, 2.0))
    torch.testing.assert_close(weighted - plain, 2 * output.attention.mean())
