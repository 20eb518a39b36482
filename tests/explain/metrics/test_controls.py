import torch

from abn_fast.explain import energy_in_box, pointing_game
from abn_fast.explain.metrics import centre_gaussian, random_maps, rank_correlation


def test_random_maps_are_in_range_depend_on_the_seed_and_know_nothing_of_a_box() -> None:
    maps = random_maps(400, (30, 40))
    assert maps.shape == (400, 30, 40)
    assert 0 <= float(maps.min()) < float(maps.max()) <= 1
    assert torch.equal(maps, random_maps(400, (30, 40)))
    assert not torch.equal(maps, random_maps(400, (30, 40), seed=1))
    box = torch.tensor([[10.0, 5.0, 30.0, 20.0]]).expand(400, 4)
    share = 20 * 15 / (30 * 40)
    assert abs(float(energy_in_box(maps, box).mean()) - share) < 0.01
    assert abs(float(pointing_game(maps, box).float().mean()) - share) < 0.1
    assert abs(float(rank_correlation(maps[:200], maps[200:]).mean())) < 0.05


def test_the_gaussian_stands_on_the_centre_and_falls_as_it_should() -> None:
    [gaussian] = centre_gaussian(1, (5, 9))
    assert float(gaussian[2, 4]) == 1
    torch.testing.assert_close(gaussian, gaussian.flip(0, 1))
    torch.testing.assert_close(gaussian[2, 0], torch.exp(torch.tensor(-((4 / 9) ** 2) / (2 * 0.25**2))))
    torch.testing.assert_close(gaussian[0, 4], torch.exp(torch.tensor(-((2 / 5) ** 2) / (2 * 0.25**2))))
